// What the commands among the benches share: options that are read or refused with the usage, and the code a command ends with.
import { type ParseArgsConfig, parseArgs } from 'node:util'
import type { Preference } from './broker-under-test.js'

const WRONG_USE = 2

/** The call of a command makes no sense. */
export class WrongUse extends Error {}

type Options = NonNullable<ParseArgsConfig['options']>

/** @throws WrongUse */
export function optionValues<T extends Options>(options: T): ReturnType<typeof parseArgs<{ options: T }>>['values'] {
  try {
    return parseArgs<{ options: T }>({ options }).values
  } catch (cause) {
    throw new WrongUse(cause instanceof Error ? cause.message : String(cause), { cause })
  }
}

/** @throws WrongUse */
export function preferenceOf(text: string): Preference {
  if (text === 'auto' || text === 'ring' || text === 'portable') return text
  throw new WrongUse(`no environment ${text}`)
}

/** Resolves with the exit code: that of `main`, or 2 once it has said why the call is wrong. */
export async function exitCodeOf(usage: string, main: () => Promise<number>): Promise<number> {
  try {
    return await main()
  } catch (cause) {
    if (!(cause instanceof WrongUse)) throw cause
    process.stderr.write(`${cause.message}\nusage: ${usage}\n`)
    return WRONG_USE
  }
}
