// The core alone: what its callers rely on, with the section of the dissertation (D) or the paper (P) that it holds.
import { describe, expect, test } from 'vitest'
import { ModelCluster, votersOnly } from './model-cluster.js'

function three(): ModelCluster {
  const cluster = new ModelCluster({ nodes: [1, 2, 3], configuration: votersOnly(1, 2, 3) })
  cluster.start()
  return cluster
}

function elected(): ModelCluster {
  const cluster = three()
  expect(cluster.runUntil(() => cluster.node(1).running.isServing, 40)).toBe(true)
  return cluster
}

describe('a new group', () => {
  test('its first voter leads after a moment, and its term begins with an entry of its own', () => {
    const cluster = elected()
    expect(cluster.nodes.map(({ running }) => [running.role, running.term, running.leader])).toEqual([
      ['leader', 1, 1],
      ['follower', 1, 1],
      ['follower', 1, 1],
    ])
    expect(cluster.node(1).running.commitIndex).toBe(1)
  })

  test('a single voter leads at once and commits what is durable', () => {
    const cluster = new ModelCluster({ nodes: [1], configuration: votersOnly(1) })
    cluster.start()
    const node = cluster.node(1)
    expect(node.running.isServing).toBe(true)
    node.append(['a', 'b'])
    expect(node.running.commitIndex).toBe(3)
    expect(cluster.network).toEqual([])
  })
})

describe('replication', () => {
  test('what a quorum has made durable is committed, and everyone hears of it', () => {
    const cluster = elected()
    cluster.node(1).append(['a', 'b', 'c'])
    expect(cluster.runUntil(() => cluster.nodes.every(({ running }) => running.commitIndex === 4), 4)).toBe(true)
    expect(cluster.node(3).log.entries.map(({ value }) => value)).toEqual(['begin', 'a', 'b', 'c'])
  })

  test('a new leader takes over when the old one is gone', () => {
    const cluster = elected()
    cluster.node(1).append(['a'])
    cluster.deliverAll()
    cluster.crash(1, true)
    const isLed = () => cluster.nodes.some(({ core }) => core?.isServing === true)
    expect(cluster.runUntil(isLed, 40)).toBe(true)
    expect(cluster.nodes.find(({ core }) => core?.isServing)?.running.commitIndex).toBe(3)
  })
})
