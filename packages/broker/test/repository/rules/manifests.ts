// What the package manifests and the lock file promise to whoever installs Millrace.
import type { Finding, Repository } from '../repository.js'

interface Manifest {
  readonly name?: string
  readonly scripts?: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly bin?: Readonly<Record<string, string>>
}

interface LockFile {
  readonly packages: Readonly<Record<string, Manifest & { readonly resolved?: string; readonly link?: boolean }>>
}

/** The whole of what each published package may pull into a user's installation. */
const RUNTIME_DEPENDENCIES: Readonly<Record<string, readonly string[]>> = {
  '@millrace/protocol': [],
  '@millrace/native': [],
  '@millrace/client': ['@millrace/protocol'],
  '@millrace/broker': ['@millrace/protocol', '@millrace/native', 'msgpackr'],
}

const INSTALL_SCRIPTS = ['preinstall', 'install', 'postinstall', 'prepare', 'prepublish']

/** Facts of package.json files and of package-lock.json. */
export function manifests(repository: Repository): readonly Finding[] {
  const findings: Finding[] = []
  const add = (path: string, message: string): number => findings.push({ rule: 'manifests', path, line: 0, message })
  for (const file of repository.files) {
    if (!/^((packages|examples)\/[^/]+\/)?package\.json$/.test(file.path)) continue
    const manifest = JSON.parse(file.text) as Manifest
    for (const script of INSTALL_SCRIPTS) {
      if (manifest.scripts?.[script] !== undefined) add(file.path, `runs a script at installation: ${script}`)
    }
    const pinned = { ...manifest.dependencies, ...manifest.devDependencies, ...manifest.optionalDependencies }
    for (const [name, version] of Object.entries(pinned)) {
      if (!/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version)) add(file.path, `${name} is not pinned to one version: ${version}`)
    }
    const allowed = RUNTIME_DEPENDENCIES[manifest.name ?? '']
    for (const name of Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies })) {
      if (allowed !== undefined && !allowed.includes(name)) add(file.path, `may not bring ${name} to its users`)
    }
    for (const target of Object.values(manifest.bin ?? {})) {
      const path = file.path.replace('package.json', target)
      if (repository.get(path) === undefined) add(file.path, `names the command ${target}, which is not committed`)
    }
  }
  findings.push(...lockFile(repository.json('package-lock.json') as LockFile | null))
  return findings
}

/** The lock names no registry, and every platform package a package may want, so that a clean install works anywhere. */
function lockFile(lock: LockFile | null): readonly Finding[] {
  if (lock === null) return []
  const findings: Finding[] = []
  const add = (message: string): number =>
    findings.push({ rule: 'manifests', path: 'package-lock.json', line: 0, message })
  for (const [path, entry] of Object.entries(lock.packages)) {
    if (entry.resolved !== undefined && /^\w+:/.test(entry.resolved)) add(`${path} names where it was fetched`)
    for (const name of Object.keys(entry.optionalDependencies ?? {})) {
      const installed = Object.keys(lock.packages).some((other) => other.endsWith(`node_modules/${name}`))
      if (!installed) add(`${path} may want ${name}, which has no entry: npm ci will refuse`)
    }
  }
  return findings
}
