// The live table: delay statistics per airport, kept by an RxJS pipeline and drawn over itself on a terminal.
import { map, type OperatorFunction, pipe, scan, throttleTime } from 'rxjs'
import type { Flight } from './flights.js'

const ROWS = 12
const REDRAW_MS = 100
const PLAIN_LINE_MS = 1_000

interface AirportDelays {
  flights: number
  /** Flights at least 15 minutes late, as the airlines count. */
  late: number
  totalMinutes: number
  worstMinutes: number
}

export type Delays = ReadonlyMap<string, AirportDelays>

/** Flights in, the statistics of all airports out: often enough to watch, and once more at the end. */
export function delaysByAirport(): OperatorFunction<Flight, Delays> {
  return pipe(
    scan(addFlight, new Map<string, AirportDelays>()),
    map((delays): Delays => delays),
    throttleTime(process.stdout.isTTY ? REDRAW_MS : PLAIN_LINE_MS, undefined, { leading: false, trailing: true }),
  )
}

function addFlight(delays: Map<string, AirportDelays>, { origin, delay }: Flight): Map<string, AirportDelays> {
  const airport = delays.get(origin) ?? { flights: 0, late: 0, totalMinutes: 0, worstMinutes: 0 }
  airport.flights++
  airport.totalMinutes += delay
  airport.worstMinutes = Math.max(airport.worstMinutes, delay)
  if (delay >= 15) airport.late++
  return delays.set(origin, airport)
}

/** Whether these are the statistics of exactly these flights. */
export function sameDelays(delays: Delays, flights: readonly Flight[]): boolean {
  const expected = flights.reduce(addFlight, new Map<string, AirportDelays>())
  return (
    delays.size === expected.size &&
    [...expected].every(([airport, { flights: count, totalMinutes }]) => {
      const seen = delays.get(airport)
      return seen?.flights === count && seen.totalMinutes === totalMinutes
    })
  )
}

/** Shows the statistics: a table drawn over the one before, or one plain line where nobody can see it move. */
export class DelayTable {
  #drawnLines = 0

  show(delays: Delays): void {
    const busiest = [...delays].sort(([, left], [, right]) => right.flights - left.flights).slice(0, ROWS)
    if (!process.stdout.isTTY) {
      const shown = busiest
        .slice(0, 5)
        .map(([name, { flights, totalMinutes }]) => `${name} ${mean(totalMinutes, flights)}`)
      console.log(
        `   ${countFlights(delays)} flights of ${delays.size} airports; mean delay in minutes: ${shown.join(', ')}`,
      )
      return
    }
    const lines = [
      '   airport  flights  mean delay  15+ min late  worst',
      ...busiest.map(([name, { flights, late, totalMinutes, worstMinutes }]) =>
        [
          `   ${name.padEnd(7)}`,
          String(flights).padStart(7),
          `${mean(totalMinutes, flights)} min`.padStart(10),
          `${((100 * late) / flights).toFixed(0)} %`.padStart(12),
          `${worstMinutes} min`.padStart(8),
        ].join('  '),
      ),
      `   ... and ${Math.max(0, delays.size - ROWS)} more airports, ${countFlights(delays)} flights in all`,
    ]
    const up = this.#drawnLines === 0 ? '' : `\u001b[${this.#drawnLines}A`
    process.stdout.write(`${up}${lines.map((line) => `\u001b[2K${line}\n`).join('')}`)
    this.#drawnLines = lines.length
  }
}

const mean = (total: number, count: number): string => (total / count).toFixed(1)

function countFlights(delays: Delays): number {
  let flights = 0
  for (const airport of delays.values()) flights += airport.flights
  return flights
}
