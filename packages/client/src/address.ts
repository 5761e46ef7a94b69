// Addresses of brokers as users write them: host, host:port, [v6]:port, millrace://host:port, comma-separated lists.
import { invalidArgument } from './errors.js'
import { DEFAULT_PORT, MAX_BOOTSTRAP_ADDRESSES } from './limits.js'

export interface Address {
  readonly host: string
  readonly port: number
}

export const showAddress = ({ host, port }: Address): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`

/** @throws MillraceError INVALID_ARGUMENT that names the part it cannot read. */
export function parseBootstrap(bootstrap: unknown): readonly Address[] {
  const parts = typeof bootstrap === 'string' ? [bootstrap] : bootstrap
  if (!Array.isArray(parts))
    throw invalidArgument(`bootstrap must be an address or a list of them, got ${typeof bootstrap}`)
  const addresses = parts.flatMap((part: unknown) => {
    if (typeof part !== 'string') throw invalidArgument(`an address must be a string, got ${typeof part}`)
    return part
      .replace(/^millrace:\/\//, '')
      .split(',')
      .map((text) => parseAddress(text.trim()))
  })
  if (addresses.length === 0) throw invalidArgument('bootstrap is empty')
  if (addresses.length > MAX_BOOTSTRAP_ADDRESSES) throw invalidArgument(`${addresses.length} bootstrap addresses`)
  return addresses
}

function parseAddress(text: string): Address {
  const match = /^(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:[\]/@?#]+))(?::(\d{1,5}))?$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = match?.[3] === undefined ? DEFAULT_PORT : Number(match[3])
  if (host === undefined || port < 1 || port > 65_535) {
    throw invalidArgument(`${JSON.stringify(text)} is not an address like host:port`)
  }
  return { host, port }
}
