// The end of some runs: a bit turns over on the disk, and somebody has to notice.
import { isSoleVoter } from '#src/raft/configuration.js'
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import type { BrokerNode } from './broker-node.js'
import type { ReadFact } from './checker/history.js'
import { type FlippedBit, flipFlushedBit, type StoredGroup } from './rot.js'
import type { RunContext } from './run-context.js'
import type { SimulatedClient } from './simulated-client.js'
import { describe, stackOf } from './simulation-result.js'

const DATA_DIRECTORY = '/data'

export class RotTrial {
  private rotten: FlippedBit | null = null
  private wasSeen = false
  /** What the last read found, by topic, partition and offset. */
  private readonly kept = new Map<string, ReadFact>()

  constructor(private readonly run: RunContext) {}

  keep(topic: string, partition: number, reads: readonly ReadFact[]): void {
    for (const fact of reads) this.kept.set(placeOf(topic, partition, fact.offset), fact)
  }

  /** The broker says that something on its disk is damaged. What the disk refuses to read is another fault. */
  damageReported(fields: Readonly<Record<string, unknown>>): void {
    const isRefused = /the disk (refuses|reports)/.test(String(fields.reason))
    if (this.rotten === null && !isRefused) this.run.fail('false-damage', describe(fields))
    this.wasSeen = this.rotten !== null
  }

  /** What is damaged at the end of a log that others have too is cut off, and comes back from them. */
  repairBegun({ topicId, partition }: Readonly<Record<string, unknown>>): void {
    if (this.rotten?.topicId === topicId && this.rotten?.partition === partition) this.wasSeen = true
  }

  /** A bit turns over on the disk: it is found, and whoever reads gets what was written or is told that it is damaged. */
  async suffer(): Promise<void> {
    const { run } = this
    const random = run.random.split('rot')
    const node = random.pick(run.cluster.nodes)
    const directory = node.machine.disk.directory(DATA_DIRECTORY)
    const flipped = flipFlushedBit(directory, (group) => this.isPartOfLog(node, group), random)
    if (flipped === null) return
    this.rotten = flipped
    run.log('a bit turns over on the disk', flipped)
    const isLeftAlone = this.isLeftAlone(node, flipped)
    if (isLeftAlone) run.coverage.count('rot in a replica that was left alone')
    if (random.chance(0.5) && !isLeftAlone) await this.restart(node)
    const client = run.population.newClient()
    if (run.options.storage.scrubBytesPerSecond > 0 && random.chance(0.6)) {
      const passes = scrubPassesOf(node)
      await run.until('the scrubber has been round', () => this.wasSeen || scrubPassesOf(node) >= passes + 2)
      if (this.wasSeen) run.coverage.count('rot found by the scrubber')
      else if (flipped.isThere()) run.fail('rot-unseen', `two passes, and nobody saw ${describe(flipped)}`)
    }
    for (const topic of run.options.topics) await this.read(client, topic.name)
    if (run.options.brokers > 1 && !isLeftAlone) {
      await this.restart(node)
      await this.awaitRepair(node)
      for (const topic of run.options.topics) await this.read(client, topic.name)
    }
    let closed = false
    void client.close().then(() => {
      closed = true
    })
    await run.until('the last reader has closed', () => closed)
    await run.until('the brokers have let go of the last reader', () => run.cluster.hasNoClients)
  }

  /** What was cut off its log or went with its beginning may stand in a slot still: nobody misses it. */
  private isPartOfLog(node: BrokerNode, { topicId, partition, firstIndex, lastIndex, term }: StoredGroup): boolean {
    // Topics were made in this order, before anything else was.
    if (topicId < 1 || topicId > this.run.options.topics.length) return false
    const log = replicaOf(node, topicId, partition)?.log
    if (log === undefined) return false
    return firstIndex >= log.start.index && lastIndex <= log.filled.index && log.termAtIndex(firstIndex) === term
  }

  /**
   * The group began with more replicas and was moved to this one. Its broker is not started with the damage: what is damaged may
   * hide the very change that let the others go, so that it would wait for them for ever (decision 0016), and they lack
   * what was committed since. As long as it runs, readers are told, as those of a broker without others are.
   */
  private isLeftAlone(node: BrokerNode, { topicId, partition }: FlippedBit): boolean {
    const replica = replicaOf(node, topicId, partition)
    return this.run.options.brokers > 1 && replica !== undefined && isSoleVoter(replica.configuration, node.nodeId)
  }

  private async restart(node: BrokerNode): Promise<void> {
    node.kill()
    node.start()
    // Logs that have not been opened are nobody's to look after.
    await this.run.until('the broker runs again', () => node.broker?.status().isReady === true)
  }

  /** A replica that was found damaged at the start gets back from the others what it lacks. */
  private async awaitRepair(node: BrokerNode): Promise<void> {
    const { run } = this
    const replicas = () => [...(node.broker?.replicas() ?? [])]
    let wasBroken = false
    let wasBeyondRepair = false
    await run.until(`broker ${node.nodeId} has the replicas of every topic, and each of them is whole`, () => {
      const broken = replicas().filter(({ core, log }) => core.isRepairing || log.failure !== null)
      if (broken.length > 0) wasBroken = true
      if (broken.some(({ log }) => log.failure !== null)) wasBeyondRepair = true
      return broken.length === 0 && node.broker?.status().isReady === true
    })
    if (wasBroken) run.coverage.count('rotten replica repaired by the others')
    if (wasBeyondRepair) run.coverage.count('rotten replica begun anew')
  }

  private async read(client: SimulatedClient, topic: string): Promise<void> {
    const { run } = this
    let over = false
    client.mill
      .consumer()
      .subscribe(topic, { from: 'earliest', until: 'end' })
      .subscribe({
        next: ({ partition, offset, key, value, headers, timestamp }) => {
          const fact = run.recorder.readFact(partition, offset, { key, value, headers, timestamp })
          const before = this.kept.get(placeOf(topic, partition, offset))
          if (before?.recordId === fact.recordId && before.digest === fact.digest) return
          run.fail('rot-served', `${topic}/${partition}@${offset} is not what it was before a bit turned over`)
        },
        error: (error: unknown) => {
          over = true
          const { code } = error as { code?: string }
          if (code === 'ERR_MILLRACE_DAMAGED') run.coverage.count('rot met by a reader')
          else run.fail('rot-unseen', `the read of ${topic} failed otherwise: ${stackOf(error)}`)
        },
        complete: () => {
          over = true
        },
      })
    await run.until(`the read of ${topic} after the rot ends`, () => over)
  }
}

function replicaOf({ broker }: BrokerNode, topicId: number, partition: number): ReplicaGroup | undefined {
  for (const replica of broker?.replicas() ?? []) {
    if (replica.key.topicId === topicId && replica.key.partition === partition) return replica
  }
  return undefined
}

function placeOf(topic: string, partition: number, offset: number): string {
  return `${topic}/${partition}@${offset}`
}

function scrubPassesOf({ broker }: BrokerNode): number {
  const { storage } = (broker?.status() ?? {}) as { storage?: { scrubPasses: number } }
  return storage?.scrubPasses ?? 0
}
