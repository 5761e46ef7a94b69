// Real brokers in this process, their clients and topics: begun before the tests of a file and gone after them, whatever
// they did.
import { startTestCluster, type TestCluster, type TestClusterOptions } from '@millrace/broker/testing'
import { type ConnectOptions, connect, DeliveryError, type Mill } from '@millrace/client'
import { admin, type CreateTopicOptions } from '@millrace/client/admin'
import { afterAll, afterEach, beforeAll } from 'vitest'

const CLOSE_TIMEOUT_MS = 2_000

export class RealCluster {
  #cluster: TestCluster | null = null
  readonly #mills: Mill[] = []
  #topics = 0

  get cluster(): TestCluster {
    if (this.#cluster === null) throw new Error('no cluster was started')
    return this.#cluster
  }

  /** The first client of the test, made when it is asked for. */
  get mill(): Mill {
    return this.#mills[0] ?? this.connect()
  }

  /** Decoded bytes that the first broker has pushed to consumers. */
  get pushedBytes(): number {
    return (this.cluster.brokers[0]!.status().counters as { readonly pushedBytes: number }).pushedBytes
  }

  async start(options: TestClusterOptions = {}): Promise<void> {
    this.#cluster = await startTestCluster({ environment: 'portable', ...options })
  }

  /** A client that is closed after the test. */
  connect(options: Partial<ConnectOptions> = {}): Mill {
    const mill = connect({ bootstrap: this.cluster.bootstrap, ...options })
    this.#mills.push(mill)
    return mill
  }

  /** @returns a name that no other test of the file has. */
  newName(): string {
    return `topic-${++this.#topics}`
  }

  /** @returns the name of a new topic. */
  async newTopic(options: CreateTopicOptions): Promise<string> {
    const name = this.newName()
    await admin(this.mill).createTopic(name, options)
    return name
  }

  async closeClients(): Promise<void> {
    await Promise.all(this.#mills.splice(0).map(closeAfterTest))
  }

  async stop(): Promise<void> {
    await this.#cluster?.stop()
    this.#cluster = null
  }
}

/** What a test left unacknowledged is no failure of its own; anything else that closing tells is. */
async function closeAfterTest(mill: Mill): Promise<void> {
  try {
    await mill.close({ timeoutMs: CLOSE_TIMEOUT_MS })
  } catch (error) {
    if (!(error instanceof DeliveryError)) throw error
  }
}

/** One cluster for all tests of the file. */
export function clusterOfFile(options: TestClusterOptions = {}): RealCluster {
  const real = new RealCluster()
  beforeAll(() => real.start(options))
  afterEach(() => real.closeClients())
  afterAll(() => real.stop())
  return real
}

/** Each test calls `start` for a cluster of its own. */
export function clusterOfTest(): RealCluster {
  const real = new RealCluster()
  afterEach(async () => {
    await real.closeClients()
    await real.stop()
  })
  return real
}
