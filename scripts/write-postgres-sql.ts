/** Writes docs/postgres.sql: the migrations of PostgresBacking, for those who run migrations by themselves. */
import { writeFileSync } from "node:fs"
import { migrations } from "../src/backings/postgres/migrations.ts"

const schema = "effect_distributed_lock"

const sections = migrations(schema).map(({ id, name, statements }) =>
  [
    `-- Migration ${id}: ${name}.`,
    ...statements.map((statement) => `${statement};`),
    `insert into "${schema}".migrations (id, name) values (${id}, '${name}');`
  ].join("\n\n")
)

writeFileSync(
  new URL("../docs/postgres.sql", import.meta.url),
  `-- The schema of PostgresBacking, for those who run migrations by themselves. Written by scripts/write-postgres-sql.ts.
begin;

create schema if not exists "${schema}";

create table if not exists "${schema}".migrations (
  id integer primary key,
  name text not null,
  applied timestamptz not null default now()
);

${sections.join("\n\n")}

commit;

-- An application needs no more than this:
-- grant usage on schema "${schema}" to my_application;
`
)
