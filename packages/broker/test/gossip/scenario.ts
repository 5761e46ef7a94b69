// The command language of the golden scenarios: text in, what the nodes did out.
import type { Claim, GossipEvent, GossipMessage, MemberState, NodeId } from '#src/gossip/gossip-types.js'
import {
  type Command,
  commandIn,
  type FileRun,
  type RunningScenario,
  runScenarioFile,
  type Settings,
} from '../golden/scenario-file.js'
import { type CoreClass, GossipWorld, recordOf, type WorldNode } from './gossip-world.js'

/** Runs every scenario of a file. */
export function runFile(text: string, coreClass?: CoreClass): FileRun {
  return runScenarioFile(text, () => new Scenario(coreClass))
}

class Scenario implements RunningScenario {
  private world: GossipWorld | null = null
  private printed: string[] = []
  /** Kinds of messages that are shown. */
  private readonly shown = new Set<string>()

  constructor(private readonly coreClass: CoreClass | undefined) {}

  run(line: string): string[] {
    this.printed = []
    commandIn(this.commands, line).carryOut()
    return this.printed
  }

  private readonly commands: Readonly<Record<string, Command>> = {
    nodes: (words, settings) => this.create(words, settings),
    show: (words) => {
      for (const word of words) this.shown.add(word)
    },
    hide: () => this.shown.clear(),
    run: ([durationMs]) => {
      this.there.run(Number(durationMs))
    },
    kill: (words) => {
      for (const id of words) this.there.kill(Number(id))
    },
    restart: ([id], settings) => {
      const bootId = settings.get('boot')
      this.there.restart(Number(id), bootId === undefined ? undefined : Number(bootId))
    },
    add: ([id]) => {
      this.there.add(Number(id))
    },
    stall: ([id, durationMs]) => this.there.stall(Number(id), Number(durationMs)),
    loss: ([rate]) => {
      this.there.lossRate = Number(rate)
    },
    cut: (words) => {
      for (const word of words) this.cut(word)
    },
    heal: () => this.there.cuts.clear(),
    leave: ([id]) => this.on(id, ({ core }) => core.leave()),
    heard: ([id, other]) => this.on(id, ({ core }) => core.heard(Number(other))),
    lost: ([id, other]) => this.on(id, ({ core }) => core.lostContact(Number(other))),
    registry: ([id, ...ids]) => this.on(id, ({ core }) => core.setRegistry(new Set(ids.map(Number)))),
    metadata: ([id], settings) =>
      this.on(id, ({ core }) =>
        core.setMetadata({ position: numberOf(settings, 'position'), hash: numberOf(settings, 'hash') }),
      ),
    leadership: ([id], settings) =>
      this.on(id, ({ core }) =>
        core.setLeadership({ version: numberOf(settings, 'version'), hash: numberOf(settings, 'hash') }),
      ),
    record: ([id], settings) =>
      this.on(id, ({ core, nodeId }) => {
        const load = { bytesPerSecond: numberOf(settings, 'bytes'), freeDiskBytes: 1e12, partitionsLed: 0 }
        core.setRecord(recordOf(nodeId, { load, rack: settings.get('rack') ?? `rack-${nodeId % 3}` }))
      }),
    hear: (words, settings) => this.hear(words, settings),
    members: (words) => {
      for (const id of words) this.printMembers(this.there.node(Number(id)))
    },
    self: (words) => {
      for (const id of words) {
        const { core } = this.there.node(Number(id))
        this.print(`${id}: ${core.bootId}.${core.incarnation}, waits ${core.awarenessFactor} times as long`)
      }
    },
    counters: ([id]) => {
      const counted = Object.entries(this.there.node(Number(id)).core.counters).filter(([, count]) => count > 0)
      this.print(`${id}: ${counted.map(([name, count]) => `${name} ${count}`).join(', ') || 'nothing'}`)
    },
  }

  private get there(): GossipWorld {
    if (this.world === null) throw new Error('a scenario begins with nodes')
    return this.world
  }

  private print(line: string): void {
    this.printed.push(line)
  }

  private create(words: readonly string[], settings: Settings): void {
    const limits = Object.fromEntries([...settings].filter(([key]) => key !== 'seed' && key !== 'known'))
    const world = new GossipWorld({
      seed: Number(settings.get('seed') ?? 1),
      nodes: words.flatMap(idsOf),
      limits: Object.fromEntries(Object.entries(limits).map(([key, value]) => [key, Number(value)])),
      encodes: true,
      ...(this.coreClass === undefined ? {} : { coreClass: this.coreClass }),
    })
    this.world = world
    if (settings.get('known') !== 'no') {
      world.introduce()
      // What they tell each other of themselves is known already.
      world.run(2_000)
    }
    world.onEvent = ({ nodeId }, event) => this.print(`${this.moment()} ${nodeId}: ${describeEvent(event)}`)
    world.onMessage = (from, to, message) => {
      if (this.shown.has(message.kind)) this.print(`${this.moment()} ${from}>${to} ${describeMessage(message)}`)
    }
  }

  private moment(): string {
    return `${Math.round(this.there.nowMs)} ms`.padStart(9)
  }

  private on(id: string | undefined, act: (node: WorldNode) => void): void {
    const node = this.there.node(Number(id))
    act(node)
    this.there.carryOut(node)
  }

  /** `hear 1 from=2 3 suspect 1.0 by=4,5`: node 1 hears from 2 that 3 is suspect. */
  private hear([id, about, state, version]: readonly string[], settings: Settings): void {
    const [bootId = 1, incarnation = 0] = (version ?? '1.0').split('.').map(Number)
    const accusers = idsOf(settings.get('by') ?? '')
    const profile =
      state === 'alive' ? { bootId, incarnation, record: recordOf(Number(about), rackOf(settings)) } : null
    const claim: Claim = {
      nodeId: Number(about),
      bootId,
      incarnation,
      state: state as MemberState,
      accusers,
      profile,
    }
    const metadata = { position: numberOf(settings, 'position'), hash: numberOf(settings, 'hash') }
    const leadership = { version: numberOf(settings, 'version'), hash: numberOf(settings, 'leaders') }
    const updates = about === undefined ? [] : [claim]
    this.there.hear(Number(id), numberOf(settings, 'from'), { kind: 'gossip', metadata, leadership, updates })
  }

  private printMembers({ nodeId, core }: WorldNode): void {
    const members = core.members().sort((left, right) => left.nodeId - right.nodeId)
    const texts = members.map(
      (member) =>
        `${member.nodeId} ${member.state} ${member.bootId}.${member.incarnation}${member.record === null ? ' (unseen)' : ''}`,
    )
    this.print(`${nodeId}: ${texts.join(', ')}`)
  }

  /** `1>2` one way, `1|2,3` both ways between all of them. */
  private cut(word: string): void {
    if (word.includes('>')) {
      this.there.cuts.add(word)
      return
    }
    const [left = '', right = ''] = word.split('|')
    for (const one of idsOf(left)) {
      for (const other of idsOf(right)) {
        this.there.cuts.add(`${one}>${other}`)
        this.there.cuts.add(`${other}>${one}`)
      }
    }
  }
}

function rackOf(settings: Settings): { rack?: string } {
  const rack = settings.get('rack')
  return rack === undefined ? {} : { rack }
}

/** `1`, `1,2` and `1-5`. */
function idsOf(text: string): NodeId[] {
  return text.split(',').flatMap((part) => {
    if (part === '') return []
    const [first = 0, last = first] = part.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, at) => first + at)
  })
}

function numberOf(settings: Settings, key: string): number {
  return Number(settings.get(key) ?? 0)
}

function describeEvent(event: GossipEvent): string {
  switch (event.kind) {
    case 'member': {
      const { nodeId, bootId, incarnation } = event.member
      return `${nodeId} ${event.change} ${bootId}.${incarnation}`
    }
    case 'pullMetadata':
      return `pull metadata ${event.digest.position} from ${event.from}`
    case 'pullLeadership':
      return `pull leadership ${event.digest.version} from ${event.from}`
    case 'metadataDiverged':
      return `metadata differs from that of ${event.from} at ${event.digest.position}`
    case 'refuted':
      return `is not ${event.accused}: now ${event.own.bootId}.${event.own.incarnation}`
    case 'contested':
      return `somebody else was ${event.claim.bootId}.${event.claim.incarnation}`
    default:
      return ''
  }
}

function describeMessage(message: GossipMessage): string {
  const target = 'target' in message ? ` of ${message.target}` : ''
  const claims = message.updates.map(({ nodeId, bootId, incarnation, state, accusers }) => {
    const by = accusers.length > 0 ? ` by ${accusers.join(' ')}` : ''
    return `${nodeId} ${state} ${bootId}.${incarnation}${by}`
  })
  return `${message.kind}${target}${claims.length > 0 ? ` [${claims.join(', ')}]` : ''}`
}
