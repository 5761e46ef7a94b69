// connect(): a client on Node.
import { nodeEnvironment } from './links/node-environment.js'
import { Mill } from './mill.js'
import type { ConnectOptions } from './options.js'

/**
 * A client of one cluster. Nothing is dialled before something is asked of it.
 * @throws MillraceError INVALID_ARGUMENT for options it does not understand.
 */
export function connect(options: ConnectOptions): Mill {
  return new Mill(nodeEnvironment(), options)
}
