// Copies bytes whatever kind of Uint8Array they come in: the `slice` of a Node Buffer copies nothing.

export function copyBytes(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes)
}
