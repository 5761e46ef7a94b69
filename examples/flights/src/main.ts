// The tutorial, and what `npm start` runs: 20,000 real flights through a broker, then a load with a crash in the middle.
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, json, type Mill, topic, utf8 } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { lastValueFrom, map, take, tap, timeout } from 'rxjs'
import { Brokers } from './brokers.js'
import { isClean } from './checker.js'
import { DelayTable, delaysByAirport, sameDelays } from './delay-table.js'
import { type Flight, readFlights } from './flights.js'
import { Load, STEADY_RECORDS_PER_SECOND } from './load.js'
import { type Options, readOptions } from './options.js'
import { percentile, printSummary, type Summary } from './summary.js'

// A topic token says what keys and values are, so that producers and consumers agree.
const Flights = topic('flights', { key: utf8, value: json<Flight>() })
const PARTITIONS = 6
/** On a terminal, a day of 2001 takes so long, for the eye. */
const DAY_MS = process.stdout.isTTY ? 40 : 0

async function main(options: Options): Promise<boolean> {
  const { brokers: count, environment } = options
  console.log(
    count === 1
      ? '1. A broker, as its own process on a fresh data directory'
      : `1. A cluster of ${count} brokers, each a process of its own`,
  )
  const brokers = await Brokers.start(count, environment)
  const why = brokers.environment === 'ring' ? 'io_uring' : (brokers.reason ?? 'as asked')
  console.log(`   process ${brokers.pids} listens on ${brokers.bootstrap}, environment ${brokers.environment} (${why})`)

  // A broker on this machine is back in a moment, so a lost connection is tried again often.
  const mill = connect({ bootstrap: brokers.bootstrap, retry: { initialMs: 50, maxMs: 250 } })
  try {
    console.log(`2. Topics flights and load, ${PARTITIONS} partitions each`)
    await admin(mill).createTopic(Flights.name, { partitions: PARTITIONS })
    await admin(mill).createTopic(Load.topic, { partitions: PARTITIONS })

    const flights = await readFlights()
    console.log(`3. ${flights.length.toLocaleString('en-US')} flights of 2001 by origin, followed by a live table`)
    await followFlights(mill, flights)

    console.log(`4. Load: ${options.records.toLocaleString('en-US')} records, and a crash in the middle`)
    const summary = await runLoad(mill, brokers, flights, options.records)

    console.log('5. Summary')
    printSummary(summary)
    if (options.json) console.log(JSON.stringify(summary))
    return isClean(summary)
  } finally {
    await mill.close()
    await brokers.stop()
  }
}

/** The main job: every flight is sent by its origin, and a consumer keeps the delays of each airport. */
async function followFlights(mill: Mill, flights: readonly Flight[]): Promise<void> {
  const table = new DelayTable()
  const followed = lastValueFrom(
    mill
      .consumer()
      .subscribe(Flights, { from: 'earliest' })
      .pipe(
        take(flights.length),
        timeout({ each: 15_000 }),
        map((record) => record.value as Flight),
        delaysByAirport(),
        tap((delays) => table.show(delays)),
      ),
  )
  const producer = mill.producer(Flights)
  let day = ''
  for (const flight of flights) {
    if (!flight.date.startsWith(day)) await sleep(DAY_MS)
    day = flight.date.slice(0, 'yyyy/mm/dd'.length)
    // ready() waits while the buffer is full; send() resolves when the record is safe, and flush() waits for them all.
    await producer.ready()
    void producer.send(flight.origin, flight)
  }
  await producer.flush()
  if (!sameDelays(await followed, flights)) throw new Error('the consumer saw other flights than were sent')
}

async function runLoad(mill: Mill, brokers: Brokers, flights: readonly Flight[], records: number): Promise<Summary> {
  const load = await new Load(mill, brokers, flights, records).run()
  const { sent, acknowledged, received, lost, duplicated, outOfOrder, unresolved } = load
  return {
    ...{ sent, acknowledged, received, lost, duplicated, outOfOrder, unresolved },
    recordsPerSecond: load.records / load.seconds,
    mbPerSecond: load.megabytes / load.seconds,
    p50Ms: percentile(load.latenciesMs, 0.5),
    p99Ms: percentile(load.latenciesMs, 0.99),
    p999Ms: percentile(load.latenciesMs, 0.999),
    latencyRecordsPerSecond: STEADY_RECORDS_PER_SECOND,
    brokerCpuSecondsPerGb: load.brokerCpuSeconds === null ? null : load.brokerCpuSeconds / (load.megabytes / 1000),
    brokerPeakRssMb: brokers.peakRssMb,
    bytesOnDisk: brokers.bytesOnDisk,
    [brokers.count === 1 ? 'restartToFirstAckMs' : 'failoverMs']: load.backAfterMs,
    brokers: brokers.count,
    environment: brokers.environment,
  }
}

const options = readOptions()
try {
  process.exitCode = (await main(options)) ? 0 : 1
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
