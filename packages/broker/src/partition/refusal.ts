// Turns what storage and validation throw into refusals that a client understands.
import { type ErrorName, ProtocolError } from '@millrace/protocol'
import { StorageError, type StorageErrorCode } from '../storage/log-store.js'
import type { Refusal } from './pending-batch.js'

const STORAGE_CODES: Readonly<Record<StorageErrorCode, ErrorName>> = {
  DISK_FULL: 'DISK_FULL',
  STORAGE_FAILED: 'STORAGE_FAILED',
  DAMAGED: 'DAMAGED',
  OUT_OF_RANGE: 'OFFSET_OUT_OF_RANGE',
  CLOSED: 'SHUTTING_DOWN',
}

/** Longer details, such as those that repeat what a client sent, are cut: the wire has a limit on texts. */
const MAX_DETAIL_CHARACTERS = 500

const cut = (detail: string): string =>
  detail.length > MAX_DETAIL_CHARACTERS ? `${detail.slice(0, MAX_DETAIL_CHARACTERS)}…` : detail

/** @throws the error itself when it is neither a refusal nor the world's fault: then it is a bug. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof ProtocolError) return { code: error.code, detail: cut(error.detail) }
  if (error instanceof StorageError) return { code: STORAGE_CODES[error.code], detail: cut(error.message) }
  throw error
}
