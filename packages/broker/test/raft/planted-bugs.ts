// Bugs planted in a copy of the core, one at a time: source text is replaced and compiled anew. Whoever is to catch one stands
// beside it.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'
import type { CoreClass } from './model-node.js'

export type Catcher = 'explorer' | 'slowExplorer' | 'schedules' | 'scenarios'

export interface PlantedBug {
  readonly name: string
  readonly file: string
  readonly find: string
  readonly replace: string
  readonly catchers: readonly Catcher[]
}

export const PLANTED_BUGS: readonly PlantedBug[] = [
  {
    name: 'two votes in a term (D3)',
    file: 'election.ts',
    find: 'return state.votedFor === request.from || (state.votedFor === 0 && state.leader === 0)',
    replace: 'return request.term >= state.votedFor',
    catchers: ['explorer', 'slowExplorer', 'scenarios'],
  },
  {
    name: 'an answer before the vote is durable (D1)',
    file: 'raft-state.ts',
    find: 'if (this.isPersisted) {',
    replace: "if (this.isPersisted || message.kind === 'voteReply') {",
    catchers: ['slowExplorer', 'scenarios'],
  },
  {
    name: 'the log of the candidate is not looked at (D2)',
    file: 'election.ts',
    find: 'return lastTerm > log.lastTerm || (lastTerm === log.lastTerm && lastIndex >= log.lastIndex)',
    replace: 'return lastTerm >= 0 && lastIndex >= 0 && log.lastIndex >= 0',
    catchers: ['explorer', 'slowExplorer', 'schedules', 'scenarios'],
  },
  {
    name: 'the longer log wins, whatever its term (D2)',
    file: 'election.ts',
    find: 'return lastTerm > log.lastTerm || (lastTerm === log.lastTerm && lastIndex >= log.lastIndex)',
    replace: 'return lastIndex > log.lastIndex || (lastIndex === log.lastIndex && lastTerm >= log.lastTerm)',
    catchers: ['scenarios'],
  },
  {
    name: 'a follower acknowledges what it has not flushed (D16)',
    file: 'following.ts',
    find: 'const index = Math.min(state.verifiedIndex, state.log.durableIndex)',
    replace: 'const index = state.verifiedIndex',
    catchers: ['schedules', 'scenarios'],
  },
  {
    name: 'the leader counts itself for what it has not flushed (D16)',
    file: 'replication.ts',
    find: 'nodeId === self ? log.durableIndex : (leading.find(nodeId)?.match ?? 0)',
    replace: 'nodeId === self ? log.lastIndex : (leading.find(nodeId)?.match ?? 0)',
    catchers: ['scenarios'],
  },
  {
    name: 'entries of older terms are committed by counting (D14)',
    file: 'replication.ts',
    find: 'if (index <= state.commitIndex || log.termAt(index) !== state.term) return',
    replace: 'if (index <= state.commitIndex) return',
    catchers: ['scenarios'],
  },
  {
    name: 'the entry before is not compared (P 5.3)',
    file: 'following.ts',
    find: '!(previousIndex <= log.lastIndex && log.termAt(previousIndex) === previousTerm)',
    replace: 'previousIndex > log.lastIndex',
    catchers: ['explorer', 'scenarios'],
  },
  {
    name: 'a follower commits what the leader has, verified or not (D18)',
    file: 'following.ts',
    find: 'const commit = Math.min(request.commit, state.verifiedIndex)',
    replace: 'const commit = Math.min(request.commit, log.lastIndex)',
    catchers: ['schedules', 'scenarios'],
  },
  {
    name: 'a shorter append cuts off what follows it (D18)',
    file: 'following.ts',
    find: 'if (at >= entries.length) return',
    replace: `if (at >= entries.length) {
    const last = Math.max(state.commitIndex, previousIndex + entries.length)
    if (last < log.lastIndex && entries.length > 0) {
      state.emit({ kind: 'truncate', lastIndex: last, sequence: log.truncate(last) })
    }
    return
  }`,
    catchers: ['explorer', 'schedules', 'scenarios'],
  },
  {
    name: 'a completed write counts for what took its place (D17)',
    file: 'log-shadow.ts',
    find: 'if (this.termAt(index) !== term) return false',
    replace: 'if (term === 0) return false',
    catchers: ['scenarios'],
  },
  {
    name: 'cuts that wait hold nothing back (D17)',
    file: 'log-shadow.ts',
    find: 'for (const cut of this.cuts) highest = Math.min(highest, cut.lastIndex)',
    replace: '',
    catchers: ['scenarios'],
  },
  {
    name: 'one set of a joint configuration is enough (D 4.3)',
    file: 'configuration.ts',
    find: 'return isJoint(configuration) ? Math.min(incoming, majorityValue(configuration.outgoing, reached)) : incoming',
    replace: 'return incoming',
    catchers: ['schedules', 'scenarios'],
  },
  {
    name: 'a configuration that is cut off stays in force (D28)',
    file: 'log-shadow.ts',
    find: 'while ((this.configurations[this.configurations.length - 1]?.index ?? 0) > lastIndex) this.configurations.pop()',
    replace: '',
    catchers: ['scenarios'],
  },
  {
    name: 'stepping down in the same term frees the vote (D3)',
    file: 'roles.ts',
    find: "  state.role = 'follower'\n",
    replace: "  state.role = 'follower'\n  state.votedFor = 0\n",
    catchers: ['explorer', 'slowExplorer', 'scenarios'],
  },
  {
    name: 'who has lost entries votes like anyone (D32)',
    file: 'ballot.ts',
    find: 'return vote?.granted === true && !vote.isRepairing',
    replace: 'return vote?.granted === true',
    catchers: ['schedules', 'scenarios'],
  },
  {
    name: 'what was acknowledged before it was lost still counts (D32)',
    file: 'replication.ts',
    find: '  progress.match = 0\n',
    replace: '',
    catchers: ['scenarios'],
  },
  {
    name: 'reads are answered without a round of their own (D26)',
    file: 'reads.ts',
    find: 'waiting.round = leading.round\n',
    replace: 'waiting.round = 1\n',
    catchers: ['scenarios'],
  },
  {
    name: 'an older state replaces a newer one (D35)',
    file: 'following.ts',
    find: 'lastIndex <= state.commitIndex ||',
    replace: '',
    catchers: ['scenarios'],
  },
  {
    name: 'a leader that no quorum answers stays one (D6)',
    file: 'replication.ts',
    find: '&& !keepsQuorum(state, leading)',
    replace: '&& !keepsQuorum(state, leading) && state.term === 0',
    catchers: ['scenarios'],
  },
]

const SOURCE = join(import.meta.dirname, '..', '..', 'src', 'raft')
/** Inside the package, so that what the core imports is found from there. */
const OUTPUT = join(import.meta.dirname, '..', '..', 'dist-dev', 'planted')

/** The core with the bug in it. @throws when the text to replace is not there exactly once. */
export async function plant(bug: PlantedBug): Promise<CoreClass> {
  const path = join(SOURCE, bug.file)
  const source = readFileSync(path, 'utf8')
  if (source.split(bug.find).length !== 2) throw new Error(`${bug.name}: ${bug.file} has not exactly one ${bug.find}`)
  const planted = source.replace(bug.find, () => bug.replace)
  const { outputFiles } = await build({
    entryPoints: [join(SOURCE, 'raft-core.ts')],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'node',
    external: ['@millrace/protocol'],
    plugins: [
      {
        name: 'plant',
        setup: ({ onLoad }) => {
          onLoad({ filter: /raft.[a-z-]+\.ts$/ }, ({ path: loaded }) =>
            loaded === path ? { contents: planted, loader: 'ts' } : null,
          )
        },
      },
    ],
  })
  mkdirSync(OUTPUT, { recursive: true })
  const file = join(OUTPUT, `${bug.name.replaceAll(/[^a-z0-9]+/gi, '-')}-${process.pid}.mjs`)
  writeFileSync(file, outputFiles[0]!.text)
  const module: { RaftCore: CoreClass } = await import(/* @vite-ignore */ pathToFileURL(file).href)
  rmSync(file)
  return module.RaftCore
}
