// The command language of the golden scenarios: text in, what the nodes did out.
import type { RaftLimits } from '#src/raft/raft-limits.js'
import type { Configuration, NodeId } from '#src/raft/raft-types.js'
import {
  type Command,
  commandIn,
  type FileRun,
  type RunningScenario,
  runScenarioFile,
  type Settings,
} from '../golden/scenario-file.js'
import { ModelCluster, NOBODY } from './model-cluster.js'
import { type CoreClass, copyOf, entryAt, lastIndexOf, type ModelNode, type TestMessage } from './model-node.js'
import { describeConfiguration, describeEffect, describeMessage } from './scenario-text.js'

/** Runs every scenario of a file. */
export function runFile(text: string, coreClass?: CoreClass): FileRun {
  return runScenarioFile(text, () => new Scenario(coreClass))
}

class Scenario implements RunningScenario {
  private cluster: ModelCluster | null = null
  private isStarted = false
  private printed: string[] = []
  private showsMessages = false
  private showsRest = false
  private held: TestMessage[] = []
  private readonly limits: Partial<Record<keyof RaftLimits, number>> = {}
  private readonly coreClass: CoreClass | undefined

  constructor(coreClass?: CoreClass) {
    this.coreClass = coreClass
  }

  /** @returns what was printed; a broken rule of the core or of safety is printed, too. */
  run(line: string): string[] {
    const isQuiet = line.startsWith(QUIETLY)
    const { name, carryOut } = commandIn(this.commands, isQuiet ? line.slice(QUIETLY.length) : line)
    this.printed = []
    if (!SETUP.has(name) && !this.isStarted && this.cluster !== null) {
      this.isStarted = true
      this.cluster.start()
    }
    try {
      carryOut()
      this.cluster?.checkLogs()
    } catch (error) {
      if (!(error instanceof Error) || !['AssertionError', 'SafetyViolation'].includes(error.name)) throw error
      this.print(`broken: ${error.message}`)
    }
    return isQuiet ? this.printed.filter((text) => text.startsWith('broken')) : this.printed
  }

  private readonly commands: Readonly<Record<string, Command>> = {
    limits: (_, settings) => {
      for (const [key, value] of settings) this.limits[key as keyof RaftLimits] = Number(value)
    },
    nodes: (words, settings) => this.create(words, settings),
    log: ([id], settings) => this.setLog(this.node(id), settings),
    messages: ([onOff]) => {
      this.showsMessages = onOff === 'on'
    },
    rests: ([onOff]) => {
      this.showsRest = onOff === 'on'
    },
    rest: ([id], settings) => {
      const [leader = 0, term = 0, index = 0] = ['leader', 'term', 'index'].map((key) => Number(settings.get(key)))
      this.print(`${id}: ${this.node(id).running.restWith(leader, term, index) ? 'rests' : 'does not rest'}`)
    },
    agreed: ([id], settings) => {
      const { running } = this.node(id)
      running.followerRests(Number(settings.get('by')), Number(settings.get('term') ?? running.term))
    },
    wake: ([id], settings) => {
      const node = this.node(id)
      node.running.wake(Number(settings.get('peer')), Number(settings.get('silent') ?? 0))
      node.settle()
    },
    atrest: ([ids]) => {
      for (const { nodeId, running } of this.nodesOf(ids))
        this.print(`${nodeId}: ${running.isAtRest ? 'at rest' : 'awake'}`)
    },
    begin: ([id, onOff]) => {
      this.node(id).appendsTermBegin = onOff === 'on'
    },
    tick: (words) => {
      const times = words.length > 1 ? Number(words.at(-1)) : 1
      for (let at = 0; at < times; at++) for (const node of this.nodesOf(words[0])) this.world.tick(node.nodeId)
    },
    timeout: ([id]) => this.timeout(this.node(id)),
    lead: ([id]) => this.lead(this.node(id)),
    run: ([times]) => {
      for (let at = 0; at < Number(times); at++) {
        this.world.tickAll()
        this.world.deliverAll()
      }
    },
    deliver: (words) => this.deliver(words),
    drop: (words) => this.take(words),
    duplicate: (words) => {
      this.world.network.push(...this.world.network.filter(matcher(words)))
    },
    hold: (words) => this.held.push(...this.take(words)),
    release: () => this.world.network.push(...this.held.splice(0)),
    inject: (words, settings) => this.world.deliver(messageOf(words, settings)),
    network: () => {
      for (const message of this.world.network) this.print(describeMessage(message))
    },
    propose: ([id, ...values]) => {
      const node = this.node(id)
      if (node.running.mayPropose) node.append(values)
      else this.print(`${id}: may not propose`)
    },
    change: ([id], settings) => this.change(this.node(id), settings),
    transfer: ([id, to]) => {
      const node = this.node(id)
      const refusal = node.running.transferTo(Number(to))
      if (refusal !== null) this.print(`${id}: refused, ${refusal}`)
      node.settle()
    },
    read: ([id]) => {
      const node = this.node(id)
      this.print(`${id}: read ${node.running.requestRead()}`)
      node.settle()
    },
    disk: ([id, speed]) => {
      const node = this.node(id)
      node.isSlow = speed === 'slow'
      node.settle()
    },
    persist: ([ids]) => {
      for (const node of this.nodesOf(ids)) node.persist()
    },
    write: ([ids]) => {
      for (const node of this.nodesOf(ids)) node.write()
    },
    flush: ([ids]) => {
      for (const node of this.nodesOf(ids)) node.flush()
    },
    report: ([id], settings) => {
      const node = this.node(id)
      node.running.durable(Number(settings.get('index')), Number(settings.get('term')))
      node.settle()
    },
    crash: ([ids, how]) => {
      for (const id of idsOf(ids)) this.world.crash(id, how !== 'silently')
    },
    restart: ([ids]) => {
      for (const id of idsOf(ids)) this.world.node(id).start()
    },
    lose: ([id, count]) => this.node(id).lose(Number(count)),
    unreachable: ([id, peer]) => {
      const node = this.node(id)
      node.running.unreachable(Number(peer))
      node.settle()
    },
    compact: ([id, index]) => compact(this.node(id), Number(index)),
    cut: (words) => {
      for (const word of words) this.cut(word)
    },
    heal: () => this.world.cuts.clear(),
    state: ([ids]) => {
      for (const node of this.nodesOf(ids)) this.print(stateOf(node))
    },
    progress: ([id]) => {
      const { running } = this.node(id)
      const { voters, outgoing, learners } = running.configuration
      for (const peer of new Set([...voters, ...outgoing, ...learners])) {
        if (peer !== running.nodeId) this.print(`${peer}: match ${running.matchOf(peer)}`)
      }
    },
  }

  private get world(): ModelCluster {
    if (this.cluster === null) throw new Error('a scenario begins with nodes')
    return this.cluster
  }

  private print(line: string): void {
    this.printed.push(line)
  }

  private node(id: string | undefined): ModelNode {
    return this.world.node(Number(id))
  }

  private nodesOf(ids: string | undefined): ModelNode[] {
    if (ids === undefined || ids === 'all') return this.world.nodes.filter(({ isUp }) => isUp)
    return idsOf(ids).map((id) => this.world.node(id))
  }

  private create(words: readonly string[], settings: Settings): void {
    const nodes = words.map(Number)
    const voters = settings.has('voters') ? listOf(settings, 'voters') : nodes
    const configuration = { voters, outgoing: listOf(settings, 'outgoing'), learners: listOf(settings, 'learners') }
    this.cluster = new ModelCluster({
      nodes,
      configuration,
      limits: this.limits,
      announcesCommits: settings.get('commits') === 'announced',
      ...(this.coreClass === undefined ? {} : { coreClass: this.coreClass }),
    })
    this.cluster.trace = (_, effect) => {
      const isMessage = effect.kind === 'send'
      if (isMessage && !this.showsMessages) return
      if ((effect.kind === 'rest' || effect.kind === 'wake') && !this.showsRest) return
      const text = describeEffect(effect)
      if (text !== '') this.print(isMessage ? text : `${_.nodeId}: ${text}`)
    }
  }

  /** `terms=1,1,2`, each entry named after its index and term, so that equal terms are equal entries. */
  private setLog(node: ModelNode, settings: Settings): void {
    const { durable } = node
    const first = Number(settings.get('start') ?? 1)
    const configuration = settings.has('config') ? NOBODY : durable.start.configuration
    durable.start = { index: first, previousTerm: Number(settings.get('previous') ?? 0), configuration }
    durable.entries = listOf(settings, 'terms').map((term, at) => ({
      term,
      configuration: null,
      byteLength: 10,
      value: `${first + at}.${term}`,
    }))
    const lastTerm = durable.entries.at(-1)?.term ?? 0
    node.hardState = {
      term: Number(settings.get('term') ?? lastTerm),
      votedFor: Number(settings.get('vote') ?? 0),
    }
  }

  /** Ticks until the node does something about it. */
  private timeout(node: ModelNode): void {
    const printedBefore = this.printed.length
    const sentBefore = this.world.network.length
    for (let at = 0; at < 40; at++) {
      this.world.tick(node.nodeId)
      if (this.printed.length > printedBefore || this.world.network.length > sentBefore) return
    }
  }

  /** It is elected and serves; what is printed on the way is left out. */
  private lead(node: ModelNode): void {
    const before = this.printed.length
    for (let at = 0; at < 100 && !node.running.isServing; at++) {
      this.world.tick(node.nodeId)
      this.world.deliverAll()
    }
    this.printed.length = before
    if (!node.running.isServing) this.print(`${node.nodeId}: does not lead`)
  }

  private deliver(words: readonly string[]): void {
    if (words.length === 0 || words[0] === 'all') this.world.deliverAll()
    else for (const message of this.take(words[0] === 'once' ? [] : words)) this.world.deliver(message)
  }

  private take(words: readonly string[]): TestMessage[] {
    const isTaken = matcher(words)
    const taken = this.world.network.filter(isTaken)
    this.world.network = this.world.network.filter((message) => !taken.includes(message))
    return taken
  }

  private change(node: ModelNode, settings: Settings): void {
    const target = { voters: listOf(settings, 'voters'), learners: listOf(settings, 'learners') }
    const configuration = node.running.proposeConfiguration(target)
    if (typeof configuration === 'string') {
      this.print(`${node.nodeId}: refused, ${configuration}`)
      return
    }
    this.print(`${node.nodeId}: proposes ${describeConfiguration(configuration)}`)
    node.appendConfiguration(configuration)
  }

  /** `1>2` one way, `1` from and to everyone. */
  private cut(word: string): void {
    if (word.includes('>')) {
      this.world.cuts.add(word)
      return
    }
    for (const { nodeId } of this.world.nodes) {
      this.world.cuts.add(`${word}>${nodeId}`)
      this.world.cuts.add(`${nodeId}>${word}`)
    }
  }
}

/** Before a command of which only what is broken is printed. */
const QUIETLY = 'quietly '
/** Commands that come before the nodes start. */
const SETUP = new Set(['limits', 'nodes', 'log', 'messages', 'rests', 'begin', 'disk', 'lose'])

function idsOf(ids: string | undefined): NodeId[] {
  return (ids ?? '').split(',').map(Number)
}

function listOf(settings: Settings, key: string): number[] {
  const value = settings.get(key) ?? ''
  return value === '' ? [] : value.split(',').map(Number)
}

/** `1>2`, `>2`, `1>` and a kind choose messages; a number takes that many of them. */
function matcher(words: readonly string[]): (message: TestMessage) => boolean {
  const route = words.find((word) => word.includes('>'))
  const [from, to] = route?.split('>') ?? []
  const kind = words.find((word) => /^[a-z]/i.test(word) && word !== 'all')
  let left = Number(words.find((word) => /^\d+$/.test(word)) ?? Number.POSITIVE_INFINITY)
  return (message) => {
    if (from !== undefined && from !== '' && message.from !== Number(from)) return false
    if (to !== undefined && to !== '' && message.to !== Number(to)) return false
    if (kind !== undefined && message.kind !== kind) return false
    return left-- > 0
  }
}

/** `inject 1>2 vote term=3 last=5/2`. */
function messageOf(words: readonly string[], settings: Settings): TestMessage {
  const [route = '', kind] = words
  const [from = 0, to = 0] = route.split('>').map(Number)
  const term = Number(settings.get('term'))
  const [lastIndex = 0, lastTerm = 0] = pairOf(settings, 'last')
  const [previousIndex = 0, previousTerm = 0] = pairOf(settings, 'previous')
  const round = Number(settings.get('round') ?? 0)
  const granted = settings.get('granted') === 'yes'
  const isRepairing = settings.get('repairing') === 'yes'
  const isTransfer = settings.get('transfer') === 'yes'
  switch (kind) {
    case 'vote':
    case 'preVote':
      return { kind, from, to, term, lastIndex, lastTerm, isTransfer }
    case 'voteReply':
    case 'preVoteReply':
      return { kind, from, to, term, granted, isRepairing }
    case 'timeoutNow':
      return { kind, from, to, term }
    case 'appendReply': {
      const [index = 0, indexTerm = 0] = pairOf(settings, 'at')
      return { kind, from, to, term, round, agrees: settings.get('agrees') === 'yes', index, indexTerm, lastIndex }
    }
    case 'install': {
      const start = { index: lastIndex + 1, previousTerm: lastTerm, configuration: votersOf(settings) }
      return { kind, from, to, term, round, start }
    }
    case 'append': {
      const entries = listOf(settings, 'entries').map((entryTerm, at) => {
        const value = `${previousIndex + 1 + at}.${entryTerm}`
        return { term: entryTerm, configuration: null, byteLength: 10, value }
      })
      const commit = Number(settings.get('commit') ?? 0)
      return { kind, from, to, term, previousIndex, previousTerm, commit, round, entries }
    }
    default:
      throw new Error(`no message ${kind}`)
  }
}

function votersOf(settings: Settings): Configuration {
  return { voters: listOf(settings, 'voters'), outgoing: [], learners: [] }
}

function pairOf(settings: Settings, key: string): number[] {
  return (settings.get(key) ?? '0/0').split('/').map(Number)
}

/** The log begins at `index` from now on. */
function compact(node: ModelNode, index: number): void {
  const { log } = node
  const before = log.entries.slice(0, index - log.start.index)
  const configuration =
    before.findLast((entry) => entry.configuration !== null)?.configuration ?? log.start.configuration
  const start = { index, previousTerm: entryAt(log, index - 1)?.term ?? log.start.previousTerm, configuration }
  node.log = { start, entries: log.entries.slice(index - log.start.index) }
  node.durable = copyOf(node.log)
  node.core?.logStartMoved(start)
}

function stateOf(node: ModelNode): string {
  const { core, nodeId } = node
  if (core === null) return `${nodeId} down, log ${logOf(node)}`
  const role = core.role === 'leader' ? `leader${core.isServing ? '' : ', not serving'}` : core.role
  const notes = [
    `${nodeId} ${role}`,
    `term ${core.term}`,
    `leader ${core.leader}`,
    `log ${logOf(node)}`,
    ...(core.durableIndex === core.lastIndex ? [] : [`durable ${core.durableIndex}`]),
    `commit ${core.commitIndex}`,
    describeConfiguration(core.configuration),
    ...(core.isRepairing ? ['repairing'] : []),
  ]
  return notes.join(', ')
}

function logOf(node: ModelNode): string {
  const log = node.logical()
  const terms = log.entries.map(({ term }) => term).join(' ')
  return `${log.start.index}..${lastIndexOf(log)} [${terms}]`
}
