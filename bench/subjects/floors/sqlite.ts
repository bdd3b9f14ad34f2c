/** A floor on SQLite: the statements of an uncontended cycle, without anything around them. */
import { DatabaseSync } from "node:sqlite"
import type { SQLInputValue, StatementSync } from "node:sqlite"
import * as Schema from "../../../dist/backings/sqlite/schema.js"
import type { Client, Setting } from "../subject.ts"
import { promiseClient } from "../subject.ts"

export const twoTransactions = async ({ url }: Setting): Promise<Client> => {
  const database = new DatabaseSync(`${url}-${crypto.randomUUID()}`)
  database.exec("pragma journal_mode = wal; pragma synchronous = normal")
  database.exec(Schema.create)
  const prepared = new Map<string, StatementSync>()
  const statement = (name: Schema.StatementName) => {
    const known = prepared.get(name)
    if (known !== undefined) return known
    const made = database.prepare(Schema.statements[name])
    prepared.set(name, made)
    return made
  }
  const run = (name: Schema.StatementName, ...inputs: ReadonlyArray<SQLInputValue>) =>
    void statement(name).run(...inputs)
  const get = (name: Schema.StatementName, ...inputs: ReadonlyArray<SQLInputValue>) => statement(name).get(...inputs)

  let last = Date.now() * 1000
  run("startClock", "floor", 0, last)
  return promiseClient(async ({ key }) => {
    const id = crypto.randomUUID()
    const token = ++last
    run("begin")
    get("clock")
    get("semaphore", key)
    run("insert", key, id, token, 1, 1, token + 30_000_000, token, null, "floor", token)
    run("saveSemaphore", key, 1, 0, "1:1")
    run("advance", token)
    run("commit")
    return async () => {
      run("begin")
      get("clock")
      get("semaphore", key)
      statement("expired").all(key, token)
      get("find", key, id)
      run("remove", key, id)
      run("removeSemaphore", key)
      run("advance", ++last)
      run("commit")
    }
  })
}
