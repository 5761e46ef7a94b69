// A throw-away copy of the built packages in which one planted bug at a time is applied and compiled.
import { spawnSync } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import ts from 'typescript'

const PACKAGES = ['protocol', 'native', 'client', 'broker']
const COMPILER: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  verbatimModuleSyntax: true,
  isolatedModules: true,
  sourceMap: false,
}

export const RUNNERS = ['sim', 'raft', 'groups', 'log-lives', 'crash'] as const
export type MutantRunner = (typeof RUNNERS)[number]

export interface Mutant {
  readonly name: string
  readonly patch: string
  /** What must catch it, as written in the patch's header. */
  readonly invariant: string
  /** Which program is to find it. */
  readonly runner: MutantRunner
  /** What the simulator is to dwell on; null for runs of every kind. */
  readonly focus: string | null
  /** Paths from the root, such as `packages/broker/src/storage/flusher.ts`. */
  readonly files: readonly string[]
}

export async function readMutants(directory: string): Promise<Mutant[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.patch')).sort()
  return Promise.all(names.map(async (name) => readMutant(name, join(directory, name))))
}

async function readMutant(name: string, path: string): Promise<Mutant> {
  const text = await readFile(path, 'utf8')
  const field = (label: string) => new RegExp(`^${label}: (.+)$`, 'm').exec(text)?.[1]
  const invariant = field('Invariant')
  const named = field('Runner') ?? 'sim'
  const runner = RUNNERS.find((one) => one === named)
  if (invariant === undefined) throw new Error(`${name} does not name the invariant that is to catch it`)
  if (runner === undefined) throw new Error(`${name}: Runner is one of ${RUNNERS.join(', ')}, not ${named}`)
  const files = [...text.matchAll(/^\+\+\+ b\/(.+)$/gm)].map((match) => match[1]!)
  if (files.length === 0) throw new Error(`${name} changes no file`)
  return { name: basename(name, '.patch'), patch: path, invariant, runner, focus: field('Focus') ?? null, files }
}

export class MutantTree {
  private constructor(
    private readonly source: string,
    readonly root: string,
  ) {}

  /** @param source the root of the repository, built. */
  static async make(source: string): Promise<MutantTree> {
    const tree = new MutantTree(source, await mkdtemp(join(tmpdir(), 'millrace-mutants-')))
    await tree.copy()
    return tree
  }

  /** Applies and compiles. @throws when the patch does not apply any more. */
  async apply(mutant: Mutant): Promise<void> {
    this.patch(mutant, [])
    for (const file of mutant.files) await this.compile(file)
  }

  async revert(mutant: Mutant): Promise<void> {
    this.patch(mutant, ['--reverse'])
    for (const file of mutant.files) await this.compile(file)
  }

  async remove(): Promise<void> {
    await rm(this.root, { recursive: true, force: true })
  }

  private patch(mutant: Mutant, options: readonly string[]): void {
    const { status, stderr } = spawnSync('git', ['apply', ...options, mutant.patch], {
      cwd: this.root,
      encoding: 'utf8',
    })
    if (status !== 0) throw new Error(`${mutant.name} does not apply: ${stderr}`)
  }

  /** File by file and without type checks: what a planted bug leaves unused is not the point. */
  private async compile(file: string): Promise<void> {
    const source = await readFile(join(this.root, file), 'utf8')
    const { outputText } = ts.transpileModule(source, { fileName: join(this.root, file), compilerOptions: COMPILER })
    const output = file.replace('/src/', '/dist/').replace(/\.ts$/, '.js')
    await writeFile(join(this.root, output), outputText)
  }

  private async copy(): Promise<void> {
    for (const name of PACKAGES) {
      const from = join(this.source, 'packages', name)
      const to = join(this.root, 'packages', name)
      await mkdir(to, { recursive: true })
      await cp(join(from, 'package.json'), join(to, 'package.json'))
      for (const part of ['src', 'dist']) await cp(join(from, part), join(to, part), { recursive: true })
    }
    for (const part of ['sim', join('test', 'raft'), join('test', 'groups')]) {
      const programs = join('packages', 'broker', 'dist-dev', part)
      await cp(join(this.source, programs), join(this.root, programs), { recursive: true })
    }
    await this.linkModules()
  }

  private async linkModules(): Promise<void> {
    const modules = join(this.root, 'node_modules')
    await mkdir(join(modules, '@millrace'), { recursive: true })
    for (const name of await readdir(join(this.source, 'node_modules'))) {
      if (name === '@millrace' || name.startsWith('.')) continue
      await symlink(join(this.source, 'node_modules', name), join(modules, name))
    }
    for (const name of PACKAGES) {
      await symlink(join(this.root, 'packages', name), join(modules, '@millrace', name))
    }
  }
}
