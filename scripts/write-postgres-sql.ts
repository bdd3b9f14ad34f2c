/** Writes docs/postgres.sql: the migrations of PostgresBacking, for users who run migrations themselves. */
import { writeFileSync } from "node:fs"
import { limitSeconds, migrationLock } from "../src/backings/postgres/migrate.ts"
import { columns, migrations } from "../src/backings/postgres/migrations.ts"

const schema = "effect_distributed_lock"

const sections = migrations(schema).map(({ id, name, statements }) =>
  [
    `-- Migration ${id}: ${name}.`,
    `do $migration$ begin
if exists (select from "${schema}".migrations where id = ${id}) then return; end if;`,
    ...statements.map((statement) => `${statement};`),
    `insert into "${schema}".migrations (id, name) values (${id}, '${name}');`,
    `end $migration$;`
  ].join("\n\n")
)

writeFileSync(
  new URL("../docs/postgres.sql", import.meta.url),
  `-- The schema of PostgresBacking, for those who run migrations by themselves. Written by scripts/write-postgres-sql.ts.
-- It creates what is missing, and so may be run again. Run it as the owner of the schema.
begin isolation level read committed;

set local search_path = pg_catalog;
set local lock_timeout = '${limitSeconds}s';
select pg_advisory_xact_lock(${migrationLock});

do $schema$ begin
  if not exists (select from pg_namespace where nspname = '${schema}') then
    create schema "${schema}";
  end if;
end $schema$;

create table if not exists "${schema}".migrations ${columns};

${sections.join("\n\n")}

commit;

-- An application needs no more than this:
-- grant usage on schema "${schema}" to my_application;
-- grant execute on all functions in schema "${schema}" to my_application;
`
)
