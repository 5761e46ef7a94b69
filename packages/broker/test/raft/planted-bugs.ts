// Bugs planted in a copy of the compiled core, one at a time, by replacing text. Whoever is to catch one stands beside it.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { CoreClass } from './model-node.js'
import type { SetClasses } from './set-world.js'

export type Catcher = 'explorer' | 'slowExplorer' | 'schedules' | 'scenarios'

export interface PlantedText {
  readonly name: string
  readonly file: string
  readonly find: string
  readonly replace: string
}

export interface PlantedBug extends PlantedText {
  readonly catchers: readonly Catcher[]
}

export const PLANTED_BUGS: readonly PlantedBug[] = [
  {
    name: 'two votes in a term (D3)',
    file: 'election.js',
    find: 'return state.votedFor === request.from || (state.votedFor === 0 && state.leader === 0)',
    replace: 'return request.term >= state.votedFor',
    catchers: ['explorer', 'slowExplorer', 'scenarios'],
  },
  {
    name: 'an answer before the vote is durable (D1)',
    file: 'raft-state.js',
    find: 'if (this.isPersisted) {',
    replace: "if (this.isPersisted || message.kind === 'voteReply') {",
    catchers: ['slowExplorer', 'scenarios'],
  },
  {
    name: 'the log of the candidate is not looked at (D2)',
    file: 'election.js',
    find: 'return lastTerm > log.lastTerm || (lastTerm === log.lastTerm && lastIndex >= log.lastIndex)',
    replace: 'return lastTerm >= 0 && lastIndex >= 0 && log.lastIndex >= 0',
    catchers: ['explorer', 'slowExplorer', 'schedules', 'scenarios'],
  },
  {
    name: 'the longer log wins, whatever its term (D2)',
    file: 'election.js',
    find: 'return lastTerm > log.lastTerm || (lastTerm === log.lastTerm && lastIndex >= log.lastIndex)',
    replace: 'return lastIndex > log.lastIndex || (lastIndex === log.lastIndex && lastTerm >= log.lastTerm)',
    catchers: ['scenarios'],
  },
  {
    name: 'a follower acknowledges what it has not flushed (D16)',
    file: 'following.js',
    find: 'const index = Math.min(state.verifiedIndex, state.log.durableIndex)',
    replace: 'const index = state.verifiedIndex',
    catchers: ['schedules', 'scenarios'],
  },
  {
    name: 'the leader counts itself for what it has not flushed (D16)',
    file: 'replication.js',
    find: 'nodeId === self ? log.durableIndex : (leading.find(nodeId)?.match ?? 0)',
    replace: 'nodeId === self ? log.lastIndex : (leading.find(nodeId)?.match ?? 0)',
    catchers: ['scenarios'],
  },
  {
    name: 'entries of older terms are committed by counting (D14)',
    file: 'replication.js',
    find: 'index <= state.commitIndex || log.termAt(index) !== state.term',
    replace: 'index <= state.commitIndex',
    catchers: ['scenarios'],
  },
  {
    name: 'the entry before is not compared (P 5.3)',
    file: 'following.js',
    find: '!(previousIndex <= log.lastIndex && log.termAt(previousIndex) === previousTerm)',
    replace: 'previousIndex > log.lastIndex',
    catchers: ['explorer', 'scenarios'],
  },
  {
    name: 'a follower commits what the leader has, verified or not (D18)',
    file: 'following.js',
    find: 'const commit = Math.min(request.commit, state.verifiedIndex)',
    replace: 'const commit = Math.min(request.commit, log.lastIndex)',
    catchers: ['schedules', 'scenarios'],
  },
  {
    name: 'a shorter append cuts off what follows it (D18)',
    file: 'following.js',
    find: 'if (at >= entries.length)',
    replace: `const last = Math.max(state.commitIndex, previousIndex + entries.length)
    if (at >= entries.length && last < log.lastIndex && entries.length > 0) {
      state.emit({ kind: 'truncate', lastIndex: last, sequence: log.truncate(last) })
    }
    if (at >= entries.length)`,
    catchers: ['explorer', 'schedules', 'scenarios'],
  },
  {
    name: 'a completed write counts for what took its place (D17)',
    file: 'log-shadow.js',
    find: 'if (this.termAt(index) !== term)',
    replace: 'if (term === 0)',
    catchers: ['scenarios'],
  },
  {
    name: 'cuts that wait hold nothing back (D17)',
    file: 'log-shadow.js',
    find: 'highest = Math.min(highest, cut.lastIndex)',
    replace: 'highest = Math.max(highest, cut.lastIndex)',
    catchers: ['scenarios'],
  },
  {
    name: 'one set of a joint configuration is enough (D 4.3)',
    file: 'configuration.js',
    find: 'return isJoint(configuration) ? Math.min(incoming, majorityValue(configuration.outgoing, reached)) : incoming',
    replace: 'return incoming',
    catchers: ['schedules', 'scenarios'],
  },
  {
    name: 'a configuration that is cut off stays in force (D28)',
    file: 'log-shadow.js',
    find: '(this.configurations[this.configurations.length - 1]?.index ?? 0) > lastIndex',
    replace: 'lastIndex < 0',
    catchers: ['scenarios'],
  },
  {
    name: 'stepping down in the same term frees the vote (D3)',
    file: 'roles.js',
    find: "state.role = 'follower';",
    replace: "state.role = 'follower'; state.votedFor = 0;",
    catchers: ['explorer', 'slowExplorer', 'scenarios'],
  },
  {
    name: 'who has lost entries votes like anyone (D32)',
    file: 'ballot.js',
    find: 'return vote?.granted === true && !vote.isRepairing',
    replace: 'return vote?.granted === true',
    catchers: ['schedules', 'scenarios'],
  },
  {
    name: 'what was acknowledged before it was lost still counts (D32)',
    file: 'replication.js',
    find: 'progress.match = 0;',
    replace: '',
    catchers: ['scenarios'],
  },
  {
    name: 'reads are answered without a round of their own (D26)',
    file: 'reads.js',
    find: 'waiting.round = leading.round',
    replace: 'waiting.round = 1',
    catchers: ['scenarios'],
  },
  {
    name: 'an older state replaces a newer one (D35)',
    file: 'following.js',
    find: 'lastIndex <= state.commitIndex ||',
    replace: '',
    catchers: ['scenarios'],
  },
  {
    name: 'a leader that no quorum answers stays one (D6)',
    file: 'replication.js',
    find: '&& !keepsQuorum(state, leading)',
    replace: '&& !keepsQuorum(state, leading) && state.term === 0',
    catchers: ['scenarios'],
  },
]

const COMPILED = join(import.meta.dirname, '..', '..', 'dist', 'raft')
/** Inside the package, so that what the core imports is found from there. */
const OUTPUT = join(import.meta.dirname, '..', '..', 'dist-dev', 'planted')

/** The core with the bug in it. @throws when the text to replace is not there exactly once. */
export function plant(bug: PlantedText): Promise<CoreClass> {
  return inPlanted(bug, async (load) => (await load<{ RaftCore: CoreClass }>('raft-core.js')).RaftCore)
}

/** Core and sets with the bug in them. @throws as `plant`. */
export function plantInSets(bug: PlantedText): Promise<SetClasses> {
  return inPlanted(bug, async (load) => ({
    coreClass: (await load<{ RaftCore: CoreClass }>('raft-core.js')).RaftCore,
    ledSetClass: (await load<{ LedSet: SetClasses['ledSetClass'] }>('led-set.js')).LedSet,
    followedSetClass: (await load<{ FollowedSet: SetClasses['followedSetClass'] }>('followed-set.js')).FollowedSet,
  }))
}

async function inPlanted<T>(bug: PlantedText, work: (load: <M>(name: string) => Promise<M>) => Promise<T>): Promise<T> {
  const folder = join(OUTPUT, `${bug.name.replaceAll(/[^a-z0-9]+/gi, '-')}-${process.pid}`)
  mkdirSync(folder, { recursive: true })
  try {
    for (const name of readdirSync(COMPILED).filter((file) => file.endsWith('.js'))) {
      const text = readFileSync(join(COMPILED, name), 'utf8')
      writeFileSync(join(folder, name), name === bug.file ? changed(text, bug) : text)
    }
    return await work((name) => import(/* @vite-ignore */ pathToFileURL(join(folder, name)).href))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function changed(text: string, bug: PlantedText): string {
  if (text.split(bug.find).length !== 2) throw new Error(`${bug.name}: ${bug.file} has not exactly one ${bug.find}`)
  return text.replace(bug.find, () => bug.replace)
}
