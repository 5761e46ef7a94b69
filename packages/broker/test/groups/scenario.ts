// The command language of the golden scenarios: text in, what the coordinator answered and whom it has news for out.
import { decodeGroupCommand, encodeGroupCommand, type GroupCommand } from '#src/groups/group-command.js'
import type { GroupResult, OwnedPartition } from '#src/groups/group-types.js'
import { GroupsState } from '#src/groups/groups-state.js'
import {
  type Command,
  commandIn,
  type FileRun,
  type RunningScenario,
  runScenarioFile,
  type Settings,
} from '../golden/scenario-file.js'
import { GroupWatch } from './invariants.js'

/** Runs every scenario of a file. */
export function runFile(text: string): FileRun {
  return runScenarioFile(text, () => new Scenario())
}

/** What a client remembers: it commits under what it was told last, whatever has happened since. */
interface Client {
  readonly memberId: bigint
  memberEpoch: number
  readonly epochs: Map<string, number>
}

class Scenario implements RunningScenario {
  private watch = new GroupWatch(new GroupsState())
  private readonly clients = new Map<string, Client>()
  private printed: string[] = []
  private nowMs = 0

  run(line: string): readonly string[] {
    this.printed = []
    commandIn(this.commands, line).carryOut()
    return this.printed
  }

  private readonly commands: Readonly<Record<string, Command>> = {
    join: ([who = ''], settings) => this.join(who, settings),
    beat: ([who = '']) => this.beat(who),
    commit: ([who = ''], settings) => this.commit(who, settings),
    leave: ([who = '']) => this.goes('leave', who),
    expire: ([who = '']) => this.goes('expire', who),
    topic: ([topicId, partitions]) =>
      this.apply({ kind: 'topic', topicId: Number(topicId), partitions: Number(partitions) }),
    reset: (_, settings) => {
      const topics = sizesOf(settings.get('topics') ?? '')
      const offsets = committedIn(settings).map(([place, offset]) => ({ ...placeOf(place), offset }))
      this.apply({ kind: 'reset', group: 'g', topics, offsets })
    },
    delete: () => this.apply({ kind: 'delete', group: 'g' }),
    describe: () => this.describe(),
    image: () => this.reload(),
  }

  private apply(command: GroupCommand): GroupResult {
    this.nowMs++
    const result = this.watch.apply(decodeGroupCommand(encodeGroupCommand(command)), this.nowMs)
    const news = result.affected.map(({ memberId }) => nameOf(memberId))
    const codes =
      result.kind === 'commit' && result.entries.some((code) => code !== 'OK') ? `: ${result.entries.join(', ')}` : ''
    this.printed.push(`${result.code}${codes}${news.length > 0 ? `; news for ${news.join(', ')}` : ''}`)
    return result
  }

  private join(who: string, settings: Settings): void {
    const client = this.clients.get(who) ?? { memberId: idOf(who), memberEpoch: 0, epochs: new Map() }
    this.clients.set(who, client)
    const result = this.apply({
      kind: 'join',
      group: 'g',
      memberId: client.memberId,
      memberName: settings.get('name') ?? null,
      clientId: who,
      leaseMs: 45_000,
      topics: sizesOf(settings.get('topics') ?? '1:6'),
    })
    if (result.kind !== 'join' || result.code !== 'OK') return
    client.memberEpoch = result.memberEpoch
    this.beat(who)
  }

  private beat(who: string): void {
    const { memberId, memberEpoch, epochs } = this.client(who)
    const told = this.watch.state.assignment('g', memberId, memberEpoch)
    if (told.code === 'OK') {
      epochs.clear()
      for (const { topicId, partition, epoch } of told.partitions) epochs.set(`${topicId}/${partition}`, epoch)
    }
    this.printed.push(`${who}: ${told.code === 'OK' ? listed(told.partitions) : told.code}`)
  }

  /** `commit a 1/0=5 release=1/0,1/1 then=leave` */
  private commit(who: string, settings: Settings): void {
    const committed = new Map(committedIn(settings))
    const released = (settings.get('release') ?? '').split(',').filter((place) => place !== '')
    const { memberId, memberEpoch, epochs } = this.client(who)
    const entries = [...new Set([...committed.keys(), ...released])].map((place) => {
      const offset = committed.get(place)
      const commit = offset === undefined ? null : { offset, term: 1 }
      return { ...placeOf(place), lane: 0, epoch: epochs.get(place) ?? 0, commit, releases: released.includes(place) }
    })
    const leaves = settings.get('then') === 'leave'
    this.apply({ kind: 'commit', group: 'g', memberId, memberEpoch, entries, leaves })
  }

  private goes(kind: 'leave' | 'expire', who: string): void {
    const { memberId, memberEpoch } = this.client(who)
    this.apply({ kind, group: 'g', memberId, memberEpoch })
  }

  private describe(): void {
    const group = this.watch.state.describe('g')
    if (group === null) {
      this.printed.push('no such group')
      return
    }
    const { state, epoch, members, offsets } = group
    this.printed.push(`${state}, epoch ${epoch}`)
    for (const { id, name, epoch: joined, partitions } of members) {
      this.printed.push(
        `${nameOf(id)}${name === null ? '' : ` as ${name}`}, joined at ${joined}: ${listed(partitions)}`,
      )
    }
    const places = offsets.map(({ topicId, partition, offset }) => `${topicId}/${partition}=${offset}`)
    if (places.length > 0) this.printed.push(`committed ${places.join(' ')}`)
  }

  /** Another coordinator goes on, from the image alone. */
  private reload(): void {
    const commands = this.watch.state.imageCommands().map(encodeGroupCommand).map(decodeGroupCommand)
    this.watch = new GroupWatch(new GroupsState())
    for (const command of commands) this.watch.apply(command, 0)
  }

  private client(who: string): Client {
    const client = this.clients.get(who)
    if (client === undefined) throw new Error(`${who} has never joined`)
    return client
  }
}

/** Members are letters. */
const idOf = (who: string): bigint => BigInt(who.charCodeAt(0))
const nameOf = (memberId: bigint): string => String.fromCharCode(Number(memberId))

function listed(partitions: readonly OwnedPartition[]): string {
  const texts = partitions.map(
    ({ topicId, partition, epoch, isRevoking, committed }) =>
      `${topicId}/${partition}@${epoch}${committed === null ? '' : `=${committed.offset}`}${isRevoking ? '!' : ''}`,
  )
  return texts.join(' ') || 'nothing'
}

/** `1:6,2:3`: topic 1 has six partitions, topic 2 three. */
function sizesOf(text: string): { topicId: number; partitions: number }[] {
  return text
    .split(',')
    .filter((part) => part !== '')
    .map((part) => {
      const [topicId = 0, partitions = 0] = part.split(':').map(Number)
      return { topicId, partitions }
    })
}

/** `1/0`: a topic and its partition. */
function placeOf(text: string): { topicId: number; partition: number } {
  const [topicId = 0, partition = 0] = text.split('/').map(Number)
  return { topicId, partition }
}

/** `1/0=5`: offset 5. */
function committedIn(settings: Settings): [place: string, offset: number][] {
  return [...settings].filter(([key]) => key.includes('/')).map(([key, value]) => [key, Number(value)])
}
