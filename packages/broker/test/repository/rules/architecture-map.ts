// The map in docs/ARCHITECTURE.md against the folders: every folder is on it, and nothing on it is made up.
import type { Finding, Repository } from '../repository.js'

export const MAP = 'docs/ARCHITECTURE.md'

/** Folders with code that the map leaves out, and folders of the map that do not exist. */
export function architectureMap(repository: Repository): readonly Finding[] {
  const map = repository.get(MAP)
  if (map === undefined) return [{ rule: 'map', path: MAP, line: 0, message: 'is missing' }]
  const findings: Finding[] = []
  const named = new Map<string, number>()
  map.lines.forEach((line, index) => {
    for (const match of line.matchAll(/`((?:packages|examples)\/[a-z0-9/-]*\/)`/g)) named.set(match[1] ?? '', index + 1)
  })
  const folders = repository.folders()
  for (const folder of folders) {
    const isMapped =
      /^packages\/[^/]+\/(src|sim)\/|^packages\/native\/cpp\//.test(folder) || /^examples\/[^/]+\/$/.test(folder)
    if (isMapped && !named.has(folder)) {
      findings.push({ rule: 'map', path: MAP, line: 0, message: `does not name ${folder}` })
    }
  }
  for (const [folder, line] of named) {
    if (!folders.has(folder))
      findings.push({ rule: 'map', path: MAP, line, message: `names ${folder}, which does not exist` })
  }
  return findings
}
