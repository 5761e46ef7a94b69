// The part of the vendored msgpackr that the client uses. The code is put beside this by scripts/vendor.mjs.

export class Packr {
  constructor(options: {
    /** False: plain maps, which any language reads. */
    readonly useRecords: false
    readonly moreTypes: false
    /** 64-bit integers as numbers. */
    readonly int64AsType: 'number'
    readonly mapsAsObjects: true
  })
  pack(value: unknown): Uint8Array
  /** @throws Error for bytes that are not one MessagePack value. */
  unpack(bytes: Uint8Array): unknown
}
