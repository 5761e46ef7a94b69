// The public face of the native package: mechanism for the broker's environment on io_uring, and no policy.
export { Arena, checksum, checksumBytes } from './arena.js'
export { type Binding, binding, type FileSystemFacts, type LoadResult, loadBinding } from './binding.js'
export { BufferRing, type BufferRingOptions } from './buffer-ring.js'
export { checkAnswer, errnoName, type NativeErrorCode, SystemError } from './errors.js'
export {
  closeDescriptor,
  fileSystemOf,
  openFile,
  syncFileSystem,
  tryLockFile,
} from './file.js'
export { type Finding, type KernelReport, probeKernel } from './kernel-features.js'
export {
  ARENA_MOST_BYTES,
  CQE_BUFFER,
  CQE_BUFFER_SHIFT,
  CQE_MORE,
  CQE_SOCKET_NON_EMPTY,
  MSG_WAITALL,
  SETUP_DEFER_TASKRUN,
  SOCKET_ADDRESS_BYTES,
} from './layout.js'
export { MESSAGE_RANGES, MessageHeaders } from './messages.js'
export { type CompletionSink, NO_SLOT, Ring, type RingOptions } from './ring.js'
export {
  type ListeningSocket,
  listenOn,
  peerOf,
  shutdownBoth,
  shutdownWriting,
  socketToConnect,
} from './socket.js'
