// Ids and positions as types of their own, so that an offset cannot be passed where an index is wanted.
import { AssertionError } from './assert.js'

declare const brand: unique symbol
type Brand<Name extends string> = number & { readonly [brand]: Name }

/** Given by the metadata log when a topic is created, from 1; never used twice. 0 is the metadata topic itself. */
export type TopicId = Brand<'TopicId'>
/** A broker of the cluster, from 1. */
export type NodeId = Brand<'NodeId'>
/** Position of a record in its partition lane, dense from 0: what users see. */
export type Offset = Brand<'Offset'>
/** Position of a batch in its partition's log, control batches included, from 1: what replication uses. */
export type LogIndex = Brand<'LogIndex'>
/** Reign of one leader, from 1; 0 means none. */
export type Term = Brand<'Term'>

const MAX_U32 = 0xffffffff

function u32(value: number, name: string): number {
  if (Number.isInteger(value) && value >= 0 && value <= MAX_U32) return value
  throw new AssertionError(`${name} must be a u32, got ${value}`)
}

function position(value: number, name: string): number {
  if (Number.isSafeInteger(value) && value >= 0) return value
  throw new AssertionError(`${name} must be a safe integer from 0, got ${value}`)
}

/** @throws AssertionError unless `value` is a u32. */
export const topicId = (value: number): TopicId => u32(value, 'topic id') as TopicId
/** @throws AssertionError unless `value` is a u32. */
export const nodeId = (value: number): NodeId => u32(value, 'node id') as NodeId
/** @throws AssertionError unless `value` is a safe integer from 0. */
export const offset = (value: number): Offset => position(value, 'offset') as Offset
/** @throws AssertionError unless `value` is a safe integer from 0. */
export const logIndex = (value: number): LogIndex => position(value, 'log index') as LogIndex
/** @throws AssertionError unless `value` is a u32. */
export const term = (value: number): Term => u32(value, 'term') as Term
