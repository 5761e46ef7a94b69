// Stopping: what is in flight is answered, what is acknowledged stays, and nobody waits for ever.
import { failure, ping, pong, Reader } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { batchOf } from '../server/batches.js'
import { RawClient } from '../server/raw-client.js'
import { runBroker } from '../server/running-broker.js'

describe('a stop', () => {
  it('tells every client and closes its connection', async () => {
    const { broker } = await runBroker()
    const clients = await Promise.all([1, 2, 3].map(() => RawClient.open(broker.address)))
    await broker.stop()
    for (const client of clients) {
      await client.whenClosed()
      expect(client.frames).toHaveLength(1)
      const [frame] = client.frames
      expect(frame?.header).toMatchObject({ kind: failure.kind, id: 0 })
      expect(failure.decode(new Reader(frame!.payload))).toMatchObject({ code: 44 })
    }
    await expect(RawClient.dial(broker.address)).rejects.toThrow('ECONNREFUSED')
  })

  it('answers requests in flight first, and refuses new ones', async () => {
    const { broker, store } = await runBroker()
    const client = await RawClient.open(broker.address)
    await client.createTopic('flights')
    const log = store.logs.get('1/0/0')!
    log.full = true
    const produced = client.produce([batchOf(2)])
    await client.request(ping, {}, pong)
    const stopped = broker.stop({ timeoutMs: 5_000 })
    expect(await client.failure()).toMatchObject({ code: 'SHUTTING_DOWN', id: 0 })
    await expect(client.request(ping, {}, pong)).rejects.toThrow('SHUTTING_DOWN')
    log.makeRoom()
    expect((await produced).results).toMatchObject([{ code: 0, baseOffset: 0 }])
    await stopped
    expect(store.closed).toBe(true)
  })

  it('waits no longer than it is told', async () => {
    const { broker, store } = await runBroker()
    const client = await RawClient.open(broker.address)
    await client.createTopic('flights')
    store.logs.get('1/0/0')!.full = true
    const produced = client.produce([batchOf(2)])
    await client.request(ping, {}, pong)
    const begun = performance.now()
    const [outcome] = await Promise.allSettled([produced, broker.stop({ timeoutMs: 50 })])
    expect(performance.now() - begun).toBeLessThan(3_000)
    expect(outcome.status).toBe('rejected')
    await client.whenClosed()
  })

  it('may be asked for twice', async () => {
    const { broker } = await runBroker()
    await Promise.all([broker.stop(), broker.stop({ timeoutMs: 1 })])
    await broker.stop()
  })

  it('frees the data directory even when the last flush fails', async () => {
    const { broker, store, directory } = await runBroker()
    store.close = () => Promise.reject(new Error('the disk is gone'))
    await expect(broker.stop()).rejects.toThrow('the disk is gone')
    await runBroker({ directory })
  })
})
