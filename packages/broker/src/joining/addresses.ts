// Addresses of brokers as `--join` names them.

export interface Address {
  readonly host: string
  readonly port: number
}

/**
 * The list of `--join`: `10.0.0.1:7420,[fd00::2]:7420`, or in a file a list of such texts.
 * @throws RangeError that says what is accepted.
 */
export function readAddresses(value: unknown): readonly Address[] {
  const items: readonly unknown[] = typeof value === 'string' ? value.split(',') : Array.isArray(value) ? value : []
  const addresses = items.map((item) => {
    const match =
      typeof item === 'string' ? /^(?:\[([0-9a-fA-F:.]+)\]|([^[\]:=\s]+)):(\d{1,5})$/.exec(item.trim()) : null
    const port = Number(match?.[3])
    if (match === null || port < 1 || port > 65_535) throw unreadable()
    return { host: (match[1] ?? match[2])!, port }
  })
  if (addresses.length === 0) throw unreadable()
  return addresses
}

function unreadable(): RangeError {
  return new RangeError('addresses of brokers of the cluster, such as 10.0.0.1:7420,10.0.0.2:7420')
}

export const showAddress = ({ host, port }: Address): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
