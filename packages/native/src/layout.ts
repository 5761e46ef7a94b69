// Numbers of the kernel's io_uring interface, mirrored from cpp/io-uring-abi.h, which owns them; a test compares both.

// ---------------------------------------------------------------- sizes and offsets in bytes

export const SQE_BYTES = 64
export const SQE_FD = 4
export const SQE_OFFSET = 8
export const SQE_ADDRESS = 16
export const SQE_LENGTH = 24
export const SQE_OPERATION_FLAGS = 28
export const SQE_USER_DATA = 32
export const SQE_BUFFER = 40
export const SQE_FILE_INDEX = 44
export const CQE_BYTES = 16
export const CQE_RESULT = 8
export const CQE_FLAGS = 12
export const BUFFER_ENTRY_BYTES = 16
export const BUFFER_ENTRY_LENGTH = 8
export const BUFFER_ENTRY_ID = 12
/** Offset of the tail, a u16 inside the first entry of a ring of provided buffers. */
export const BUFFER_RING_TAIL = 14
/** A `struct msghdr` of 64-bit Linux. */
export const MESSAGE_HEADER_BYTES = 56
/** The kernel registers at most this much as one buffer. */
export const ARENA_MOST_BYTES = 1024 * 1024 * 1024

/** Words shared by the addon and JavaScript, see `Control` in cpp/ring.h. */
export const CONTROL_WORK = 0
export const CONTROL_ACTIVE = 4
export const CONTROL_REFERENCED = 8
export const CONTROL_FINALS = 12

// ---------------------------------------------------------------- operations

export const OP_NOP = 0
export const OP_FSYNC = 3
export const OP_READ_FIXED = 4
export const OP_WRITE_FIXED = 5
export const OP_SENDMSG = 9
export const OP_ACCEPT = 13
export const OP_ASYNC_CANCEL = 14
export const OP_CONNECT = 16
export const OP_FALLOCATE = 17
export const OP_READ = 22
export const OP_WRITE = 23
export const OP_SEND = 26
export const OP_RECV = 27

// ---------------------------------------------------------------- flags

export const SQE_BUFFER_SELECT = 32
export const FSYNC_DATA_ONLY = 1
export const ACCEPT_MULTISHOT = 1
export const RECVSEND_POLL_FIRST = 1
export const CANCEL_ALL = 1
export const CANCEL_ANY = 4
export const CQE_BUFFER = 1
export const CQE_MORE = 2
export const CQE_SOCKET_NON_EMPTY = 4
export const CQE_BUFFER_SHIFT = 16
export const SQ_CQ_OVERFLOW = 2
export const SQ_TASKRUN = 4
export const ENTER_GET_EVENTS = 1
export const SETUP_SINGLE_ISSUER = 4096
export const SETUP_DEFER_TASKRUN = 8192
export const SETUP_TASKRUN_FLAG = 512
export const SETUP_COOP_TASKRUN = 256
export const SETUP_NO_SQ_ARRAY = 65536

/** `msg_flags` of sends and receives: go on until all bytes are done. */
export const MSG_WAITALL = 0x100
/** Flags of accepted sockets: a child process does not inherit them. */
export const SOCK_CLOEXEC = 0x80000
/** What one socket address takes at the most, a `sockaddr_in6`; the kernel takes a shorter one at this length too. */
export const SOCKET_ADDRESS_BYTES = 28
