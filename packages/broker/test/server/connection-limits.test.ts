// Limits on connections: from one address, per second, and what a client that meets them is told.
import { errorName, failure, Reader } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { MAX_REFUSALS_UNDER_WAY } from '#src/limits.js'
import { addressOf, ConnectionAdmission, DEFAULT_CONNECTION_LIMITS } from '#src/server/connection-admission.js'
import { TestClock } from '../partition/fixture.js'
import { RawClient } from './raw-client.js'
import { runBroker } from './running-broker.js'

async function refusalOf(client: RawClient): Promise<{ code: string | null; detail: string }> {
  const { payload } = await client.receive(({ header }) => header.kind === failure.kind)
  const { code, detail } = failure.decode(new Reader(payload))
  return { code: errorName(code), detail }
}

async function closedOf(client: RawClient): Promise<void> {
  while (!client.closed) await new Promise((resolve) => setTimeout(resolve, 2))
}

describe('the admission of connections', () => {
  const limits = { ...DEFAULT_CONNECTION_LIMITS, maxConnectionsPerAddress: 2, acceptsPerSecond: 10 }

  it('counts each address by itself, and forgets who has left', () => {
    const admission = new ConnectionAdmission(new TestClock(), limits)
    expect([admission.admit('10.0.0.1'), admission.admit('10.0.0.1'), admission.admit('10.0.0.2')]).toEqual([
      null,
      null,
      null,
    ])
    expect(admission.admit('10.0.0.1')).toContain('10.0.0.1 has 2 connections, which is the limit')
    admission.left('10.0.0.1')
    expect(admission.admit('10.0.0.1')).toBeNull()
    expect(admission.admit('10.0.0.1')).toContain('--max-connections-per-address')
  })

  it('accepts a burst, then so many a second', () => {
    const clock = new TestClock()
    const admission = new ConnectionAdmission(clock, { ...limits, maxConnectionsPerAddress: 0 })
    const accepted = (): number => {
      let count = 0
      while (admission.admit('10.0.0.1') === null) count++
      return count
    }
    expect(accepted()).toBe(20)
    expect(admission.admit('10.0.0.2')).toContain('more than 10 connections a second')
    clock.advance(300)
    expect(accepted()).toBe(3)
    clock.advance(3_600_000)
    expect(accepted()).toBe(20)
  })

  it('knows no limit where it is 0, but for all connections together', () => {
    const free = { maxConnections: 100, maxConnectionsPerAddress: 0, acceptsPerSecond: 0 }
    const admission = new ConnectionAdmission(new TestClock(), free)
    for (let i = 0; i < 100; i++) expect(admission.admit('10.0.0.1')).toBeNull()
    expect(admission.admit('10.0.0.2')).toContain('the broker has 100 connections')
  })

  it.each([
    ['127.0.0.1:7420', '127.0.0.1'],
    ['::1:7420', '::1'],
    ['[::1]:7420', '[::1]'],
    ['::ffff:10.0.0.1:80', '::ffff:10.0.0.1'],
    ['nobody', 'nobody'],
  ])('finds the address in %s', (peer, address) => {
    expect(addressOf(peer)).toBe(address)
  })
})

describe.each(['portable', 'ring'] as const)('a broker on the %s environment', (environment) => {
  it('tells whoever is one too many, and serves again when another has gone', async () => {
    const { broker, log } = await runBroker({ environment, config: { maxConnectionsPerAddress: 2 } })
    const first = await RawClient.open(broker.address)
    await RawClient.open(broker.address)
    const third = await RawClient.dial(broker.address)
    const { code, detail } = await refusalOf(third)
    expect(code).toBe('OVERLOADED')
    expect(detail).toMatch(
      /127\.0\.0\.1.* has 2 connections, which is the limit: .* raise --max-connections-per-address/,
    )
    await closedOf(third)
    expect(broker.status()).toMatchObject({
      connections: 2,
      counters: { connectionsRefused: 1, refusals: { OVERLOADED: 1 } },
    })
    await expect
      .poll(() => log.lines.map(({ message }) => message), { timeout: 5_000 })
      .toContain('connections were refused')

    first.socket.destroy()
    await expect.poll(() => broker.status().connections).toBe(1)
    const again = await RawClient.open(broker.address)
    expect(await again.createTopic('flights')).toBe(1)
  })

  it('slows down who makes connections all the time', async () => {
    const { broker } = await runBroker({ environment, config: { acceptsPerSecond: 1 } })
    await RawClient.open(broker.address)
    await RawClient.open(broker.address)
    const refused = await RawClient.dial(broker.address)
    expect(await refusalOf(refused)).toMatchObject({
      code: 'OVERLOADED',
      detail: expect.stringContaining('--accepts-per-second'),
    })
    await expect
      .poll(async () => (await RawClient.open(broker.address).catch(() => null)) !== null, {
        timeout: 5_000,
        interval: 300,
      })
      .toBe(true)
  })

  it('does not let those it refuses pile up', async () => {
    const { broker } = await runBroker({ environment, config: { maxConnectionsPerAddress: 1 } })
    await RawClient.open(broker.address)
    const count = MAX_REFUSALS_UNDER_WAY + 20
    const refused = await Promise.all(
      Array.from({ length: count }, () => RawClient.dial(broker.address).catch(() => null)),
    )
    await Promise.all(refused.map((client) => (client === null ? undefined : closedOf(client))))
    expect(broker.status()).toMatchObject({ connections: 1, counters: { connectionsRefused: count } })
  })
})
