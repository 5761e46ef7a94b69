// Numbers on a program's command line: what is no number must not pass for a run of nothing that broke nothing.

/** @throws Error when `text` is not a whole number from 0 on. */
export function wholeNumber(option: string, text: string): number {
  const value = Number(text)
  if (text === '' || !Number.isSafeInteger(value) || value < 0)
    throw new Error(`${option} takes a whole number, not ${text === '' ? 'nothing' : text}`)
  return value
}
