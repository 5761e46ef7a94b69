// Starting on a data directory: whose it is, who uses it, and what a refused start leaves alone.
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type BrokerConfig, startBroker } from '#src/broker.js'
import { IDENTITY_FILE } from '#src/identity.js'
import { chooseEnvironment } from '#src/io/choose-environment.js'
import { freePorts } from '#src/io/free-ports.js'
import { clusterIdOf } from '#src/members.js'
import { StartError } from '#src/start-error.js'
import { batchOf } from '../server/batches.js'
import { RawClient } from '../server/raw-client.js'
import { LogCapture, temporaryDirectory } from '../server/running-broker.js'
import { ENVIRONMENTS } from './environments.js'

const MEMORY_BYTES = 128 * 1024 * 1024

/** Names and contents of all small files of a directory. */
async function contentsOf(directory: string): Promise<Record<string, string>> {
  const contents: Record<string, string> = {}
  for (const name of (await readdir(directory)).sort()) {
    if (!name.startsWith('slot-') && !name.startsWith('.'))
      contents[name] = await readFile(join(directory, name), 'utf8')
  }
  return contents
}

describe.each(ENVIRONMENTS)('a start on the %s environment', (prefer) => {
  async function start(directory: string, changes: Partial<BrokerConfig> = {}) {
    const log = new LogCapture()
    const environment = await chooseEnvironment({ prefer, memoryBytes: MEMORY_BYTES, logger: log })
    try {
      const broker = await startBroker(environment, { dataDirectory: directory, port: 0, ...changes })
      const stop = async () => {
        await broker.stop({ timeoutMs: 100 })
        await environment.close()
      }
      return { broker, stop, log }
    } catch (error) {
      await environment.close()
      throw error
    }
  }

  async function refusal(directory: string, changes: Partial<BrokerConfig> = {}): Promise<StartError> {
    const error = await start(directory, changes).then(
      () => expect.fail('it started'),
      (cause: unknown) => cause,
    )
    expect(error).toBeInstanceOf(StartError)
    return error as StartError
  }

  it('begins the cluster of its members, and stays in it when they move', async () => {
    const directory = await temporaryDirectory()
    const [port = 0, later = 0] = await freePorts('127.0.0.1', 2)
    const members = [{ nodeId: 7, host: '127.0.0.1', port }]
    const first = await start(directory, { members, nodeId: 7, port })
    expect(first.broker).toMatchObject({ nodeId: 7, clusterId: clusterIdOf(members), address: { port } })
    await first.stop()
    const moved = [{ nodeId: 7, host: '127.0.0.1', port: later }]
    const second = await start(directory, { members: moved, nodeId: 7, port: later })
    expect(second.broker).toMatchObject({ clusterId: clusterIdOf(members), address: { port: later } })
    await second.stop()
    expect(await refusal(directory, { members, nodeId: 8 })).toMatchObject({ code: 'INVALID_CONFIG' })
  })

  it('makes an identity once and keeps it, and counts starts', async () => {
    const directory = join(await temporaryDirectory(), 'made', 'for', 'it')
    const first = await start(directory)
    const { clusterId, nodeId } = first.broker
    expect(clusterId).toMatch(/^[0-9a-f]{32}$/)
    expect(first.broker.status()).toMatchObject({ nodeId: 1, starts: 1, environment: prefer, connections: 0 })
    await first.stop()
    const second = await start(directory, { clusterId, nodeId })
    expect(second.broker).toMatchObject({ clusterId, nodeId })
    expect(second.broker.status()).toMatchObject({ starts: 2 })
    await second.stop()
  })

  it('on an address that others can reach needs --insecure', async () => {
    const directory = join(await temporaryDirectory(), 'data')
    expect(await refusal(directory, { host: '0.0.0.0' })).toMatchObject({ code: 'INSECURE' })
    await expect(readdir(directory)).rejects.toThrow('ENOENT')
    expect(await refusal(directory, { host: '0.0.0.0', insecure: true })).toMatchObject({ code: 'NOT_BOOTSTRAPPED' })
    const { broker, stop } = await start(directory, { host: '0.0.0.0', insecure: true, bootstrap: true })
    expect(broker.address.port).toBeGreaterThan(0)
    await stop()
  })

  it('in a directory in use names who uses it', async () => {
    const directory = await temporaryDirectory()
    const { stop } = await start(directory)
    const before = await contentsOf(directory)
    const error = await refusal(directory)
    expect(error).toMatchObject({ code: 'DATA_IN_USE' })
    expect(error.message).toContain(String(process.pid))
    expect(await contentsOf(directory)).toEqual(before)
    await stop()
  })

  it('on a port in use changes nothing', async () => {
    const first = await start(await temporaryDirectory())
    const directory = await temporaryDirectory()
    const error = await refusal(directory, { port: first.broker.address.port })
    expect(error).toMatchObject({ code: 'ADDRESS_IN_USE' })
    expect(error.message).toContain(String(first.broker.address.port))
    await first.stop()
    const second = await start(directory, { port: first.broker.address.port })
    await second.stop()
  })

  it('on an address this machine does not have is refused', async () => {
    const directory = await temporaryDirectory()
    const options = { host: '192.0.2.1', insecure: true, bootstrap: true }
    expect(await refusal(directory, options)).toMatchObject({ code: 'ADDRESS_UNUSABLE' })
  })

  it('on the data of another node or cluster is refused, and touches nothing', async () => {
    const directory = await temporaryDirectory()
    await (await start(directory)).stop()
    const before = await contentsOf(directory)
    expect(await refusal(directory, { nodeId: 7 })).toMatchObject({ code: 'DATA_OF_ANOTHER' })
    expect(await refusal(directory, { clusterId: 'a'.repeat(32) })).toMatchObject({ code: 'DATA_OF_ANOTHER' })
    expect(await contentsOf(directory)).toEqual(before)
    await (await start(directory)).stop()
  })

  it('with the identity of one directory and the data of another is refused', async () => {
    const [one, other] = [await temporaryDirectory(), await temporaryDirectory()]
    for (const directory of [one, other]) {
      const { broker, stop } = await start(directory)
      const client = await RawClient.open(broker.address)
      await client.createTopic('flights')
      expect((await client.produce([batchOf(1)])).codes).toEqual([null])
      client.close()
      await stop()
    }
    await writeFile(join(one, IDENTITY_FILE), await readFile(join(other, IDENTITY_FILE)))
    const before = await contentsOf(one)
    expect(await refusal(one)).toMatchObject({ code: 'DATA_OF_ANOTHER' })
    expect(await contentsOf(one)).toEqual(before)
  })

  it('in a directory with files of others is refused', async () => {
    const directory = await temporaryDirectory()
    await writeFile(join(directory, 'thesis.txt'), 'chapter one')
    const error = await refusal(directory)
    expect(error).toMatchObject({ code: 'DATA_FOREIGN' })
    expect(error.message).toContain('thesis.txt')
    expect(await contentsOf(directory)).toEqual({ 'thesis.txt': 'chapter one' })
  })

  it('without the identity of its data is refused', async () => {
    const directory = await temporaryDirectory()
    await (await start(directory)).stop()
    await rm(join(directory, IDENTITY_FILE))
    expect(await refusal(directory)).toMatchObject({ code: 'DATA_FOREIGN' })
  })

  it('on a path that is a file is refused', async () => {
    const directory = await temporaryDirectory()
    await writeFile(join(directory, 'file'), 'x')
    expect(await refusal(join(directory, 'file'))).toMatchObject({ code: 'DATA_UNUSABLE' })
    await mkdir(join(directory, 'empty'))
    await (await start(join(directory, 'empty'))).stop()
  })

  it.each([
    ['is empty', () => '', 'DATA_CORRUPT'],
    ['is not JSON', () => '{"format": 1', 'DATA_CORRUPT'],
    ['is another kind of JSON', () => '[1]', 'DATA_CORRUPT'],
    ['was changed by hand', (text: string) => text.replace('"nodeId":1', '"nodeId":2'), 'DATA_CORRUPT'],
    ['has lost its checksum', (text: string) => text.replace(/,"checksum".*/, '}'), 'DATA_CORRUPT'],
    ['is of a newer format', (text: string) => text.replace('"format":1', '"format":2'), 'DATA_OF_NEWER_VERSION'],
  ] as const)('whose identity file %s is refused, and the file is kept', async (_name, change, code) => {
    const directory = await temporaryDirectory()
    await (await start(directory)).stop()
    const path = join(directory, IDENTITY_FILE)
    const original = await readFile(path, 'utf8')
    await writeFile(path, change(original))
    const before = await contentsOf(directory)
    expect(await refusal(directory)).toMatchObject({ code })
    expect(await contentsOf(directory)).toEqual(before)
    await writeFile(path, original)
    await (await start(directory)).stop()
  })
})
