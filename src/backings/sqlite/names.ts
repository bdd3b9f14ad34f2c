/** How names are written in the file. */

/** SQLite's text can't hold every string of JavaScript. JSON can, and is different for different strings (B8). */
export const encode = (name: string): string => JSON.stringify(name)

export const decode = (text: string): string => JSON.parse(text) as string
