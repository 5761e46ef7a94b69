// Why a broker does not start, in words that say what to do. Nothing has been changed then.
import { DiskError, type DiskErrorCode, NetworkError, type NetworkErrorCode } from './environment.js'
import { ForeignSlotError, StorageError } from './storage/log-store.js'

export type StartErrorCode =
  /** A setting is wrong or unknown. */
  | 'INVALID_CONFIG'
  /** Another process uses the data directory. */
  | 'DATA_IN_USE'
  /** The directory holds something that is not a broker's data. */
  | 'DATA_FOREIGN'
  /** The directory belongs to another node or cluster than the one configured. */
  | 'DATA_OF_ANOTHER'
  | 'DATA_OF_NEWER_VERSION'
  | 'DATA_CORRUPT'
  /** The directory is empty and the broker was not told to begin a cluster. */
  | 'NOT_BOOTSTRAPPED'
  /** No broker of the cluster that is to be joined lets this one in. */
  | 'NOT_JOINED'
  /** The directory belongs to a node that was removed from its cluster. */
  | 'NODE_REMOVED'
  /** The directory cannot be read or written. */
  | 'DATA_UNUSABLE'
  | 'NO_DIRECT_IO'
  | 'DISK_FULL'
  | 'ADDRESS_IN_USE'
  | 'ADDRESS_UNUSABLE'
  /** The address can be reached by others, and nothing protects it. */
  | 'INSECURE'
  | 'OUT_OF_MEMORY'

export class StartError extends Error {
  override readonly name = 'StartError'
  constructor(
    readonly code: StartErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options)
  }
}

const DISK_CODES: Readonly<Record<DiskErrorCode, StartErrorCode>> = {
  LOCKED: 'DATA_IN_USE',
  NO_DIRECT_IO: 'NO_DIRECT_IO',
  NO_SPACE: 'DISK_FULL',
  NOT_FOUND: 'DATA_UNUSABLE',
  EXISTS: 'DATA_UNUSABLE',
  READ_ONLY: 'DATA_UNUSABLE',
  PERMISSION: 'DATA_UNUSABLE',
  INPUT_OUTPUT: 'DATA_UNUSABLE',
  CLOSED: 'DATA_UNUSABLE',
  OTHER: 'DATA_UNUSABLE',
}

/** Of the codes that listening has; the others come from dialling. */
const NETWORK_ADVICE: Readonly<Partial<Record<NetworkErrorCode, readonly [StartErrorCode, string]>>> = {
  ADDRESS_IN_USE: ['ADDRESS_IN_USE', 'another program listens there: stop it or choose another --port'],
  PERMISSION: ['ADDRESS_UNUSABLE', 'ports below 1024 need privileges: choose another --port'],
  BAD_ADDRESS: ['ADDRESS_UNUSABLE', 'this machine has no such address: choose another --host'],
}
const OTHER_NETWORK_ADVICE = ['ADDRESS_UNUSABLE', 'choose another --host or --port'] as const

/** Names what kept a broker from starting; an error that is a bug passes through. */
export function startErrorFrom(error: unknown): unknown {
  if (error instanceof DiskError) return new StartError(DISK_CODES[error.code], error.message, { cause: error })
  if (error instanceof StorageError) {
    const code = error.code === 'DISK_FULL' ? 'DISK_FULL' : error.code === 'DAMAGED' ? 'DATA_CORRUPT' : 'DATA_UNUSABLE'
    return new StartError(code, error.message, { cause: error })
  }
  if (error instanceof ForeignSlotError) return new StartError('DATA_OF_ANOTHER', error.message, { cause: error })
  if (error instanceof NetworkError) {
    const [code, advice] = NETWORK_ADVICE[error.code] ?? OTHER_NETWORK_ADVICE
    return new StartError(code, `${error.message}; ${advice}`, { cause: error })
  }
  return error
}
