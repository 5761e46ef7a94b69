// Values of settings as people write them: numbers, sizes, choices. Each reader explains what it would have accepted.

/** @throws RangeError that says what is accepted, for a value that is not. */
export type ReadValue<T> = (value: unknown) => T

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }
const TRUE = new Set<unknown>([true, 'true', '1', 'yes'])
const FALSE = new Set<unknown>([false, 'false', '0', 'no'])

/** A text that is not empty. */
export const text: ReadValue<string> = (value) => {
  if (typeof value === 'string' && value !== '') return value
  throw new RangeError('a text that is not empty')
}

export function integer(least: number, most: number): ReadValue<number> {
  return (value) => {
    const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value
    if (typeof number === 'number' && Number.isInteger(number) && number >= least && number <= most) return number
    throw new RangeError(`a whole number from ${least} to ${most}`)
  }
}

/** Bytes: a number, or one with a unit of 1,024 (k, m, g; also KiB, MB and the like). */
export function byteSize(least: number): ReadValue<number> {
  return (value) => {
    const match = /^(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?$/i.exec(String(value).trim())
    const bytes = match === null ? Number.NaN : Math.floor(Number(match[1]) * UNITS[match[2]!.toLowerCase()]!)
    if (bytes >= least && Number.isSafeInteger(bytes)) return bytes
    throw new RangeError(`a size of at least ${least / 2 ** 20}m, such as 512m or 2g`)
  }
}

export const flag: ReadValue<boolean> = (value) => {
  if (TRUE.has(value)) return true
  if (FALSE.has(value)) return false
  throw new RangeError('true or false')
}

export function choice<const T extends string>(...choices: readonly T[]): ReadValue<T> {
  return (value) => {
    const found = choices.find((candidate) => candidate === value)
    if (found !== undefined) return found
    throw new RangeError(choices.join(', '))
  }
}

export const hexId: ReadValue<string> = (value) => {
  if (typeof value === 'string' && /^[0-9a-f]{32}$/.test(value)) return value
  throw new RangeError('32 hexadecimal digits')
}
