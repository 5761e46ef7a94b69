// Contract of Network.datagrams and of Crypto.
import { describe, expect, it } from 'vitest'
import { type DatagramSocket, MAX_DATAGRAM_BYTES, NetworkError } from '#src/environment.js'
import type { ContractSideFactory } from './contract-side.js'
import { eventually, pattern, sameBytes, sleep, useSide } from './fixture.js'

interface Socket {
  readonly socket: DatagramSocket
  readonly received: { readonly bytes: Uint8Array; readonly port: number }[]
}

export function describeDatagramContract(factory: ContractSideFactory): void {
  describe('datagrams', () => {
    const side = useSide(factory)

    async function open(port = 0): Promise<Socket> {
      const received: { bytes: Uint8Array; port: number }[] = []
      const socket = await side().environment.network.datagrams({ host: side().host, port }, (bytes, from) => {
        expect(from.host).toBe(side().host)
        received.push({ bytes: bytes.slice(), port: from.port })
      })
      return { socket, received }
    }

    it('carries bytes there and back, up to the largest', async () => {
      const one = await open()
      const other = await open()
      expect(one.socket.port).toBeGreaterThan(0)
      expect(one.socket.port).not.toBe(other.socket.port)
      for (const length of [1, 100, MAX_DATAGRAM_BYTES]) {
        const bytes = pattern(length, length)
        one.socket.send(side().host, other.socket.port, bytes)
        bytes.fill(0)
        const before = other.received.length
        await eventually(side().environment, 'it has arrived', () => other.received.length > before)
        expect(sameBytes(other.received.at(-1)!.bytes, pattern(length, length))).toBe(true)
        expect(other.received.at(-1)!.port).toBe(one.socket.port)
      }
      other.socket.send(side().host, one.socket.port, pattern(10, 1))
      await eventually(side().environment, 'the answer has arrived', () => one.received.length === 1)
      await Promise.all([one.socket.close(), other.socket.close()])
    })

    it('sends into the void without harm, and refuses what is too long', async () => {
      const { socket } = await open()
      const gone = await open()
      await gone.socket.close()
      for (let i = 0; i < 3; i++) socket.send(side().host, gone.socket.port, pattern(10, i))
      await sleep(side().environment, 20)
      expect(gone.received).toEqual([])
      const tooLong = new Uint8Array(MAX_DATAGRAM_BYTES + 1)
      expect(() => socket.send(side().host, gone.socket.port, tooLong)).toThrow('a datagram of')
      await socket.close()
      socket.send(side().host, gone.socket.port, pattern(10, 1))
      await socket.close()
    })

    it('refuses a port in use and an address that is not here', async () => {
      const { socket } = await open()
      const codeOf = (host: string, port: number) =>
        side()
          .environment.network.datagrams({ host, port }, () => {})
          .then(
            () => 'bound',
            (cause: unknown) => (cause instanceof NetworkError ? cause.code : cause),
          )
      expect(await codeOf(side().host, socket.port)).toBe('ADDRESS_IN_USE')
      expect(await codeOf('203.0.113.7', 0)).toBe('BAD_ADDRESS')
      await socket.close()
      expect(await codeOf(side().host, socket.port)).toBe('bound')
    })

    it('shares a port number with a listener of streams', async () => {
      const listener = await side().environment.network.listen({ host: side().host, port: 0 }, () => {
        throw new Error('nobody connects')
      })
      const { socket } = await open(listener.port)
      expect(socket.port).toBe(listener.port)
    })
  })

  describe('crypto', () => {
    const side = useSide(factory)
    const key = pattern(32, 1)
    const nonce = pattern(12, 2)
    const additional = pattern(20, 3)

    it('opens what it has sealed, and nothing else', () => {
      const { crypto } = side().environment
      for (const length of [0, 1, 1_000]) {
        const plain = pattern(length, 4)
        const sealed = crypto.seal(key, nonce, additional, plain)
        expect(sealed.byteLength).toBe(length + 16)
        expect(sameBytes(crypto.open(key, nonce, additional, sealed)!, plain)).toBe(true)
        for (const at of [0, length, length + 15]) {
          const changed = sealed.slice()
          changed[at]! ^= 1
          expect(crypto.open(key, nonce, additional, changed)).toBeNull()
        }
        expect(crypto.open(pattern(32, 9), nonce, additional, sealed)).toBeNull()
        expect(crypto.open(key, pattern(12, 9), additional, sealed)).toBeNull()
        expect(crypto.open(key, nonce, pattern(20, 9), sealed)).toBeNull()
        expect(crypto.open(key, nonce, additional, sealed.subarray(0, 15))).toBeNull()
      }
    })

    it('is AES-256-GCM (McGrew and Viega, test case 14)', () => {
      const { crypto } = side().environment
      const sealed = crypto.seal(new Uint8Array(32), new Uint8Array(12), new Uint8Array(0), new Uint8Array(16))
      expect(Buffer.from(sealed).toString('hex')).toBe(
        'cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919',
      )
    })
  })
}
