// The numbers TypeScript uses are those of the addon, each and every one.
import { expect, it } from 'vitest'
import { binding } from '#src/binding.js'
import * as layout from '#src/layout.js'
import { describeNative } from './native-suite.js'

describeNative('layout', () => {
  it('is the same in C++ and TypeScript', () => {
    expect(binding().layout()).toEqual({ ...layout })
  })
})
