/** Writes Markdown as dprint formats it. */

export const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const escaped = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll("|", "\\|").replaceAll("\n", " ")))
  const widths = head.map((_, column) => Math.max(1, ...escaped.map((row) => row[column]!.length)))
  const line = (cells: ReadonlyArray<string>) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`
  const [first, ...others] = escaped
  return [line(first!), line(widths.map((width) => "-".repeat(width))), ...others.map(line)].join("\n")
}

/** Shows a number with three digits. */
export const number = (value: number | undefined): string => {
  if (value === undefined) return ""
  if (value === 0) return "0"
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en").replaceAll(",", " ")
  return String(Number(value.toPrecision(3)))
}

export const times = (value: number): string => {
  if (value === Infinity) return "∞"
  return `${Number(value.toPrecision(2))}×`
}
