// Finds files by a pattern with one `*` per path segment (Node 20 has no glob of its own).
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './process.mjs'

/** Paths below the repository's root that match, sorted. */
export function globSync(pattern) {
  let found = ['']
  for (const segment of pattern.split('/')) {
    const matches = new RegExp(`^${segment.replace(/[.]/g, '\\.').replace('*', '[^/]+')}$`)
    found = found.flatMap((folder) => {
      if (!segment.includes('*')) return existsSync(join(root, folder, segment)) ? [join(folder, segment)] : []
      if (!existsSync(join(root, folder))) return []
      return readdirSync(join(root, folder))
        .filter((name) => matches.test(name))
        .sort()
        .map((name) => join(folder, name))
    })
  }
  return found
}
