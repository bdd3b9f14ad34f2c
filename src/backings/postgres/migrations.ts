/** The schema, as numbered migrations that are only ever appended. */
import { functions } from "./functions.ts"
import { grants } from "./grantsMigration.ts"
import { initial } from "./initialMigration.ts"

/**
 * One step from a version of the schema to the next.
 *
 * @category models
 * @since 0.1.0
 */
export interface Migration {
  readonly id: number
  readonly name: string
  /** Run them one by one, in one transaction. */
  readonly statements: ReadonlyArray<string>
}

/** Quotes a name as an identifier. */
export const quote = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

/** Quotes a text as a literal, whatever `standard_conforming_strings` says. */
export const literal = (text: string): string => {
  const quoted = `'${text.replaceAll("'", "''").replaceAll("\\", "\\\\")}'`
  return text.includes("\\") ? `E${quoted}` : quoted
}

/** Returns a dollar quote that does not occur in a name. */
const dollarQuote = (name: string): string => {
  let tag = "semaphore"
  while (name.includes(`$${tag}$`)) tag += "_"
  return `$${tag}$`
}

/** The columns of the table `migrations`, which records what has been applied. */
export const columns = "(id integer primary key, name text not null, applied timestamptz not null default now())"

/** Returns all migrations for a schema of this name, oldest first. */
export const migrations = (schema: string): ReadonlyArray<Migration> => {
  const s = quote(schema)
  return [
    {
      id: 1,
      name: "initial",
      statements: initial({
        s,
        channel: literal(schema),
        tokens: literal(`${s}.tokens`),
        tickets: literal(`${s}.tickets`),
        body: dollarQuote(schema)
      })
    },
    { id: 2, name: "grants", statements: [...grants(s), ...functions(s, dollarQuote(schema))] }
  ]
}
