// Numbered records through the real client: sent, read again, and compared as numbers.
import { connect, type Mill, topic, utf8 } from '@millrace/client'
import { onTestFinished } from 'vitest'
import type { TestCluster } from '#src/testing.js'

export const numbered = (name: string) => topic(name, { key: utf8, value: utf8 })

/** A client that is closed with the test, and comes back quickly. */
export function client({ bootstrap }: TestCluster): Mill {
  const mill = connect({
    bootstrap,
    retry: { initialMs: 20, maxMs: 200 },
    requestTimeoutMs: 5_000,
    logger: { info() {}, warn() {} },
  })
  onTestFinished(() => mill.close({ timeoutMs: 200 }).catch(() => undefined))
  return mill
}

export const numbers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)

/** Resolves when every one is acknowledged. @throws MillraceError */
export async function sendAll(mill: Mill, name: string, from: number, to: number): Promise<void> {
  const producer = mill.producer(numbered(name), { deliveryTimeoutMs: 30_000 })
  await Promise.all(numbers(from, to).map((number) => producer.send(`key-${number % 16}`, String(number))))
  await producer.close()
}

/** Everything that is there, in ascending order; a record that is there twice comes twice. */
export async function readAll(mill: Mill, name: string): Promise<number[]> {
  const consumer = mill.consumer()
  const found: number[] = []
  for await (const { value } of consumer.subscribe(numbered(name), { from: 'earliest', until: 'end' })) {
    found.push(Number(value))
  }
  await consumer.close()
  return found.sort((left, right) => left - right)
}
