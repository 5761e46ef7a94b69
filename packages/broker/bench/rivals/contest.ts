// The contest: every client does every task in turns, round by round, so that whatever else the machine does meets all alike. The
// first round warms up and does not count.
import type { ClientDoor } from './client-door.js'
import type { ConsumeForm, Durability, Figures } from './contestant.js'

export interface Plan {
  /** A moment's work: nothing is warmed up. */
  readonly tiny: boolean
  readonly recordBytes: readonly number[]
  readonly rounds: number
  readonly seconds: number
  /** The backlog that is consumed: at least so many bytes, and at least so many records. */
  readonly backlogBytes: number
  readonly backlogRecords: number
  /** All for null. */
  readonly tasks: readonly string[] | null
}

/** A client, and the system it stands in front of: two clients of one system read the same backlog. */
export interface Entrant {
  readonly door: ClientDoor
  readonly system: string
}

export type TaskName = 'single' | 'callers' | 'batch' | 'consume' | 'each'

export interface Task {
  readonly name: TaskName
  readonly durability: Durability
}

export interface Score {
  readonly client: string
  readonly task: Task
  readonly recordBytes: number
  readonly rounds: readonly Figures[]
}

const BATCH = 100
/** Single awaited sends at once, as of a server under load. */
const CALLERS = 64
const TASKS: readonly Task[] = [
  { name: 'single', durability: 'buffered' },
  { name: 'callers', durability: 'buffered' },
  { name: 'batch', durability: 'buffered' },
  { name: 'single', durability: 'flushed' },
  { name: 'batch', durability: 'flushed' },
  { name: 'consume', durability: 'buffered' },
  { name: 'each', durability: 'buffered' },
]
const FORMS: Readonly<Partial<Record<TaskName, ConsumeForm>>> = { consume: 'fastest', each: 'each' }

export async function contest(entrants: readonly Entrant[], plan: Plan): Promise<readonly Score[]> {
  const scores: Score[] = []
  for (const recordBytes of plan.recordBytes) {
    const records = Math.max(plan.backlogRecords, Math.ceil(plan.backlogBytes / recordBytes))
    const backlog = `backlog-${recordBytes}`
    const firsts = entrants.filter(({ system }, at) => at === entrants.findIndex((other) => other.system === system))
    for (const { door } of firsts) {
      await door.ask({ kind: 'create', topic: backlog, durability: 'buffered' })
      await door.ask({ kind: 'fill', topic: backlog, recordBytes, records })
    }
    for (const task of TASKS.filter(({ name }) => plan.tasks?.includes(name) ?? true)) {
      const rounds = new Map<Entrant, Figures[]>(entrants.map((entrant) => [entrant, []]))
      for (let round = 0; round <= plan.rounds; round++) {
        // Nobody is always the one behind the same other.
        for (let turn = 0; turn < entrants.length; turn++) {
          const entrant = entrants[(turn + round) % entrants.length]!
          const figures = await run(entrant.door, task, { backlog, records, recordBytes, round, plan })
          if (round > 0) rounds.get(entrant)!.push(figures)
        }
      }
      for (const [{ door }, figures] of rounds) scores.push({ client: door.name, task, recordBytes, rounds: figures })
    }
    for (const { door } of firsts) await door.ask({ kind: 'remove', topic: backlog, durability: 'buffered' })
  }
  return scores
}

interface Turn {
  readonly backlog: string
  readonly records: number
  readonly recordBytes: number
  readonly round: number
  readonly plan: Plan
}

async function run(door: ClientDoor, { name, durability }: Task, turn: Turn): Promise<Figures> {
  const { recordBytes, records, plan, round } = turn
  const form = FORMS[name]
  if (form !== undefined) return door.ask({ kind: 'consume', topic: turn.backlog, form, recordBytes, records })
  const topic = `${door.name}-${name}-${durability}-${recordBytes}-${round}`
  await door.ask({ kind: 'create', topic, durability })
  const recordsPerCall = name === 'batch' ? BATCH : 1
  const callers = name === 'callers' ? CALLERS : 1
  const order = { topic, durability, recordBytes, recordsPerCall, callers, seconds: plan.seconds }
  const warmUp = round === 0 && !plan.tiny
  const figures = await door.ask({ kind: 'produce', ...order, warmUp })
  await door.ask({ kind: 'remove', topic, durability })
  return figures
}
