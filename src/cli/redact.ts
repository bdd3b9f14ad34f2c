/** Keeps passwords out of everything that is written. */

const secrets = new Set<string>()

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Remembers the passwords of a URL, even of a broken one: from now on, `redact` removes them from any text. */
export const keepSecrets = (url: string): void => {
  const password = /:\/\/[^:]*:(.*)@/s.exec(url)?.[1]
  const parameters = Array.from(url.matchAll(/[?&][^=&]*pass[^=&]*=([^&]*)/gi), ([, value]) => value)
  for (const secret of [password, ...parameters]) {
    if (secret) secrets.add(secret).add(decoded(secret))
  }
}

/**
 * Removes from URLs what may be secret: all before the last `@`, and the parameters. Then removes the known passwords, because the
 * error of a client may quote what it sent.
 */
export const redact = (text: string): string => {
  const withoutUrls = text.replace(
    /\b([a-z][a-z\d+.-]*:\/\/)(\S*@)?([^\s?]*)(\?[^\s"')]*)?/gi,
    (_, scheme: string, credentials: string | undefined, address: string, parameters: string | undefined) =>
      `${scheme}${credentials ? "***@" : ""}${address}${parameters ? "?***" : ""}`
  )
  return [...secrets].reduce((text, secret) => text.replaceAll(secret, "***"), withoutUrls)
}
