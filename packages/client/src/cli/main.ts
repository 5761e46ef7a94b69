// The command `millrace`: runs what its words ask for, and ends with the code that says how it went.
import { type CommandName, readCommandLine } from './command-line.js'
import { EXIT, type ExitCode } from './exit-codes.js'
import { describeFailure, exitCodeOf } from './failure.js'
import { helpPage } from './help.js'
import { DataOutput, Messages } from './output.js'
import type { Session } from './session.js'

type Runner = (session: Session) => Promise<ExitCode>

/** Loaded when needed: help and mistakes are answered without waiting for the client and RxJS to load. */
const RUNNERS: Readonly<Record<CommandName, () => Promise<Runner>>> = {
  'topic create': async () => (await import('./topics.js')).createTopic,
  'topic list': async () => (await import('./topics.js')).listTopics,
  'topic describe': async () => (await import('./topics.js')).describeTopic,
  'topic alter': async () => (await import('./alter-topic.js')).alterTopic,
  'topic delete': async () => (await import('./topics.js')).deleteTopic,
  'group list': async () => (await import('./groups.js')).listGroups,
  'group describe': async () => (await import('./groups.js')).describeGroup,
  'group reset': async () => (await import('./groups.js')).resetGroup,
  'group delete': async () => (await import('./groups.js')).deleteGroup,
  'cluster status': async () => (await import('./cluster.js')).clusterStatus,
  'cluster health': async () => (await import('./cluster.js')).clusterHealth,
  'cluster members': async () => (await import('./brokers.js')).clusterMembers,
  'broker drain': async () => (await import('./brokers.js')).drainBroker,
  'broker remove': async () => (await import('./brokers.js')).removeBroker,
  'partition move': async () => (await import('./partitions.js')).movePartition,
  'partition moves': async () => (await import('./partitions.js')).listMoves,
  produce: async () => (await import('./produce.js')).produce,
  consume: async () => (await import('./consume.js')).consume,
  version: async () => (await import('./version.js')).version,
}

async function run(words: readonly string[], session: Omit<Session, 'line'>): Promise<ExitCode> {
  const line = readCommandLine(words, process.env)
  if (line.help || line.name === null) {
    void session.output.writeText(helpPage(line.name))
    return EXIT.ok
  }
  const runner = await RUNNERS[line.name]()
  return runner({ ...session, line })
}

/** The first Ctrl-C ends the command in good order, the second at once. */
function listenForInterrupt(): AbortSignal {
  const interrupt = new AbortController()
  process.on('SIGINT', () => {
    if (interrupt.signal.aborted) process.exit(EXIT.interrupted)
    interrupt.abort()
  })
  return interrupt.signal
}

/** A reader that has seen enough (`millrace consume | head`) is no error. */
function listenForClosedPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.failure))
  }
}

const words = process.argv.slice(2)
const output = new DataOutput()
const messages = new Messages()
listenForClosedPipe()
try {
  process.exitCode = await run(words, { output, messages, interrupted: listenForInterrupt() })
  await output.end()
} catch (error) {
  messages.line(describeFailure(error, words.includes('--json')))
  process.exitCode = exitCodeOf(error)
}
