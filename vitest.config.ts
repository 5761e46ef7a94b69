// Tests run over the compiled packages: only the test files themselves are transformed, everything in `dist` is
// imported by Node as users import it (a worker's entry cannot be a .ts file on Node 20).
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** They take longest, mostly waiting for other processes: begun last, one of them would run on alone. */
const LONGEST = [
  'packages/broker/test/bench/',
  'packages/broker/test/sim/simulation.test',
  'packages/broker/test/raft/planted-bugs',
  'packages/broker/test/storage/truncation',
  'packages/client/test/cli/command',
  'packages/broker/test/memory/exploration',
  'packages/broker/test/faults/',
  'packages/broker/test/ring/',
  'packages/broker/test/server/bad-input',
  'packages/broker/test/broker/',
  'packages/broker/test/peers/',
  'packages/broker/test/repository/',
  'examples/',
]

/** Files of pure computation, without processes, sockets or changed globals, share a process and what it has loaded. */
const PURE = [
  'packages/protocol/test/**/*.test.ts',
  'packages/client/test/{*,streams/*}.test.ts',
  'packages/client/test/cli/{command-line,lines,record-format}.test.ts',
  'packages/broker/test/{cluster,config,gossip,groups,partition,raft,replication,storage}/**/*.test.ts',
  'packages/broker/test/inspect/{any-damage,cut-logs,inspect,power-cuts,recycled-slots}.test.ts',
  'packages/broker/test/memory/{eviction,exploration,page-pool,reservations,table-model}.test.ts',
  'packages/broker/test/peers/{hand-over,logged-entry,members}.test.ts',
  'packages/broker/test/portable/{console-logger,network-errors}.test.ts',
  'packages/broker/test/server/{connection,cursors,message-pack,topics}.test.ts',
  'packages/broker/test/sim/{checker,checker-cluster,contract,network-faults,scenarios,simulated-world}.test.ts',
]

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const found = LONGEST.findIndex((path) => moduleId.includes(path))
      return found < 0 ? LONGEST.length : found
    }
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b))
  }
}

export default defineConfig({
  test: {
    pool: 'forks',
    // One more than there are cores where the tests are to run: many wait for programs that they started.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    // What hangs is found all the same; a machine that is five times slower, or busy, is none of a test's business.
    testTimeout: 240_000,
    hookTimeout: 120_000,
    teardownTimeout: 5_000,
    allowOnly: false,
    passWithNoTests: false,
    server: { deps: { external: [/\/(packages|examples)\/[^/]+\/(dist|dist-dev)\//] } },
    projects: [
      {
        extends: true,
        test: {
          name: 'apart',
          include: ['packages/*/test/**/*.test.ts', 'examples/*/test/**/*.test.ts'],
          exclude: PURE,
        },
      },
      { extends: true, test: { name: 'pure', include: PURE, isolate: false } },
    ],
  },
})
