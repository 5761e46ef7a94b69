// A package as it would be published: what is packed and what a stranger gets, licence and prebuilt addon included.
import { cpSync, mkdirSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { node, root } from './process.mjs'

export const PACKAGES = ['protocol', 'native', 'broker', 'client']
const SLIM = 'packages/client/scripts/slim.mjs'
const ADDON = 'packages/native/build/Release/millrace_native.node'

/** Stages `packages/NAME` in a folder of its own below `folder`. @returns that folder. */
export function stage(name, folder) {
  const source = join(root, 'packages', name)
  const staged = join(folder, name)
  mkdirSync(staged, { recursive: true })
  for (const entry of readdirSync(source)) {
    if (!['node_modules', 'build', 'dist-dev'].includes(entry))
      cpSync(join(source, entry), join(staged, entry), { recursive: true })
  }
  cpSync(join(root, 'LICENSE'), join(staged, 'LICENSE'))
  if (name === 'native' && process.platform === 'linux') {
    const target = join(staged, 'prebuilds', `${process.platform}-${process.arch}`)
    mkdirSync(target, { recursive: true })
    cpSync(join(root, ADDON), join(target, basename(ADDON)))
  }
  return staged
}

/** The staged client without comments in its code, as it is published. @returns what its program said. */
export function slim(staged) {
  return node(SLIM, [staged], { output: 'quiet' })
}

/** What `npm pack --json` has packed, out of whatever else npm printed. */
export function tarball(text) {
  const [packed] = JSON.parse(text.slice(text.indexOf('['), text.lastIndexOf(']') + 1))
  return packed
}
