// The simulated environment keeps the contract.
import { goodNetwork } from '../../sim/pipe.js'
import { SeededRandom } from '../../sim/random.js'
import { Scheduler, settle } from '../../sim/scheduler.js'
import { SimulatedMachine } from '../../sim/simulated-environment.js'
import { type Endpoint, SimulatedNetwork } from '../../sim/simulated-network.js'
import type { ContractSide, DialedPeer } from '../contract/contract-side.js'
import { describeEnvironmentContract } from '../contract/environment-contract.js'

const HOST = 'broker'

async function simulatedSide(seed: number, memoryBytes: number): Promise<ContractSide> {
  const random = new SeededRandom(`contract-${seed}`)
  const scheduler = new Scheduler()
  const network = new SimulatedNetwork(scheduler, goodNetwork(), random.split('network'))
  const machine = new SimulatedMachine(scheduler, network, random.split('machine'), {
    host: HOST,
    diskBytes: 256 * 1024 * 1024,
    memoryBytes,
    onLog: () => {},
    onMisuse: () => {},
    watcher: { onFlush: () => {}, onError: () => {} },
  })
  const environment = machine.start()
  const peerProcess = scheduler.spawn('peer')
  let stopped = false
  // The test awaits promises of the simulated world, so that world turns in the background, one event at a time.
  const turning = (async () => {
    while (!stopped) {
      await scheduler.run(() => stopped, { deadlineMs: Number.POSITIVE_INFINITY, events: 1 })
      await settle()
    }
  })()
  let directories = 0
  return {
    environment,
    host: HOST,
    newDirectory: () => `/volume-${directories++}`,
    dial: (port) =>
      new Promise((resolve, reject) => {
        network.dial(peerProcess, 'peer', HOST, port, (end) => resolve(dialedPeer(end)), reject)
      }),
    async blackHole() {
      network.darkHosts.add('nowhere')
      return { host: 'nowhere', port: 7420 }
    },
    async close() {
      await environment.close()
      stopped = true
      await turning
      environment.memory.check()
    },
  }
}

function dialedPeer(end: Endpoint): DialedPeer {
  let listener: ((chunk: Uint8Array) => void) | null = null
  const closed = new Promise<void>((resolve) => {
    end.attach({ onBytes: (chunk) => listener?.(chunk), onClosed: () => resolve() })
  })
  end.incoming.pause()
  return {
    write: (bytes) => end.outgoing.write(bytes.slice(), () => {}),
    onBytes(callback) {
      listener = callback
      end.incoming.resume()
    },
    pause: () => end.incoming.pause(),
    resume: () => end.incoming.resume(),
    end: () => end.end(),
    reset: () => end.reset(),
    closed,
  }
}

for (const seed of [1, 2, 3]) {
  describeEnvironmentContract(`simulated (seed ${seed})`, ({ memoryBytes }) => simulatedSide(seed, memoryBytes))
}
