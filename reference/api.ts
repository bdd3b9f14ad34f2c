/** The API reference, which TypeDoc makes from the doc comments. TypeDoc needs an older TypeScript than the library. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { Application, Comment, DeclarationReflection, Logger, LogLevel, ReflectionKind } from "typedoc"

const root = Path.resolve(import.meta.dirname, "..")
const out = Path.join(root, ".tmp", "reference")
const { exports, name } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8"))

/** Every entry of the package: its path within src, and the name that users import it by. */
const entries = Object.entries<string>(exports)
  .filter(([, file]) => file.endsWith(".js"))
  .map(([path, file]) => ({
    source: file.replace("./dist/", "").replace(/\.js$/, ".ts"),
    import: Path.posix.join(name, path)
  }))

class ProblemLogger extends Logger {
  readonly problems: Array<string> = []
  override log(message: string, level: LogLevel): void {
    if (level >= LogLevel.Warn) this.problems.push(message)
  }
}

const exported = ReflectionKind.Module | ReflectionKind.Namespace | ReflectionKind.Variable | ReflectionKind.Function |
  ReflectionKind.Class | ReflectionKind.Interface | ReflectionKind.TypeAlias

/** Returns the comment at the head of a file, without its tags. TypeDoc takes it for the module's only if it has a special tag. */
const headOf = (file: string): string | undefined =>
  /^\/\*\*\n(.*?)^ \*(?:\/| @)/ms.exec(Fs.readFileSync(file, "utf8"))?.[1]?.replaceAll(/^ \* ?/gm, "").trim()

/** Writes the pages, and returns what is wrong: exports without a comment, links that lead nowhere. */
export const writeReference = async (): Promise<ReadonlyArray<string>> => {
  const app = await Application.bootstrap({
    name,
    entryPoints: entries.map(({ source }) => Path.join(root, "src", source)),
    tsconfig: Path.join(root, "tsconfig.build.json"),
    readme: "none",
    // A link to the source would need the name of a commit.
    disableSources: true,
    // What errors inherit from Effect, its own reference describes.
    excludeExternals: true,
    validation: { invalidLink: true, invalidPath: true, notExported: true }
  })
  const logger = new ProblemLogger()
  app.logger = logger
  const project = await app.convert()
  if (project === undefined) return logger.problems
  for (const module of project.getReflectionsByKind(ReflectionKind.Module | ReflectionKind.Namespace)) {
    const file = project.getSymbolIdFromReflection(module)?.fileName
    const head = file && headOf(file)
    if (head) module.comment = new Comment([{ kind: "text", text: head }])
    const entry = entries.find(({ source }) => source.replace(/(\/index)?\.ts$/, "") === module.name)
    if (entry !== undefined) module.name = entry.import
  }
  for (const reflection of project.getReflectionsByKind(exported)) {
    if (!(reflection instanceof DeclarationReflection)) continue
    const comment = reflection.comment ?? reflection.signatures?.[0]?.comment
    // TypeDoc accepts a comment that has only tags.
    if (!comment?.summary.length) {
      logger.problems.push(`${reflection.getFullName()} has no sentence that says what it is`)
    }
  }
  app.validate(project)
  await app.generateDocs(project, out)
  return logger.problems
}
