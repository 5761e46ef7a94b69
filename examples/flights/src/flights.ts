// The data: 20,000 real flights of early 2001, as the package vega-datasets brings them.
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

export interface Flight {
  /** Year/month/day hour:minute, local time. */
  readonly date: string
  /** Minutes; negative when the flight was early. */
  readonly delay: number
  /** Miles. */
  readonly distance: number
  readonly origin: string
  readonly destination: string
}

/** All flights in the order of their departure. */
export async function readFlights(): Promise<readonly Flight[]> {
  // The package lets nobody import its data, so the file is found beside its main file.
  const main = createRequire(import.meta.url).resolve('vega-datasets')
  const text = await readFile(join(dirname(main), '../data/flights-20k.json'), 'utf8')
  return JSON.parse(text) as Flight[]
}
