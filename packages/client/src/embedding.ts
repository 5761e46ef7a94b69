// The public face for those who bring their own environment: the simulator, tests, other runtimes. No Node, no sockets.
import type { ClientEnvironment } from './environment.js'
import { Mill } from './mill.js'
import type { ConnectOptions } from './options.js'

export type { ClientCodec, ClientEnvironment, ClientTimer, Link, LinkHandler, ZstdCodec } from './environment.js'

/** A client in the environment given. @throws MillraceError INVALID_ARGUMENT. */
export function connectWith(environment: ClientEnvironment, options: ConnectOptions): Mill {
  return new Mill(environment, options)
}
