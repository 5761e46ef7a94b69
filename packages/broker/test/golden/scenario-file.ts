// Files of golden scenarios: prose, lines with `> ` are commands, and the indented lines behind one are what it printed.
// Running a file gives it back as it should be.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface FileRun {
  /** The file with what was printed. */
  readonly text: string
  readonly titles: readonly string[]
}

export interface RunningScenario {
  /** @returns what the command prints. */
  run(line: string): readonly string[]
}

/** `voters=1,2` and the like. */
export type Settings = ReadonlyMap<string, string>

export type Command = (words: readonly string[], settings: Settings) => void

/** Runs every scenario of a file; each begins with `== title`. @param begin makes one that nothing was said to yet. */
export function runScenarioFile(text: string, begin: () => RunningScenario): FileRun {
  const titles: string[] = []
  const output: string[] = []
  let scenario = begin()
  for (const line of text.split('\n')) {
    if (line.startsWith('  ')) continue
    output.push(line)
    if (line.startsWith('== ')) {
      titles.push(line.slice(3))
      scenario = begin()
    } else if (line.startsWith('> ')) {
      output.push(...scenario.run(line.slice(2)).map((printed) => `  ${printed}`))
    }
  }
  return { text: output.join('\n'), titles }
}

/** What a line asks for, not carried out yet. @throws Error when there is no such command. */
export function commandIn(
  commands: Readonly<Record<string, Command>>,
  line: string,
): { readonly name: string; carryOut(): void } {
  const { words, settings } = wordsOf(line)
  const [name = '', ...rest] = words
  const command = commands[name]
  if (command === undefined) throw new Error(`no command ${name}`)
  return { name, carryOut: () => command(rest, settings) }
}

/** A command cut into its words and its settings. */
function wordsOf(line: string): { readonly words: readonly string[]; readonly settings: Settings } {
  const words: string[] = []
  const settings = new Map<string, string>()
  for (const word of line.split(' ').filter((part) => part !== '')) {
    const at = word.indexOf('=')
    if (at > 0) settings.set(word.slice(0, at), word.slice(at + 1))
    else words.push(word)
  }
  return { words, settings }
}

export interface ScenarioFile {
  readonly name: string
  readonly path: string
  readonly text: string
}

export function scenarioFiles(folder: string): readonly ScenarioFile[] {
  return readdirSync(folder).map((name) => {
    const path = join(folder, name)
    return { name, path, text: readFileSync(path, 'utf8') }
  })
}

/** Runs the files of a folder; with `--rewrite` they are written as they should be, else each difference is an error. */
export function runScenarioFolder(folder: string, runFile: (text: string) => FileRun): void {
  const rewrites = process.argv.includes('--rewrite')
  let count = 0
  for (const { name, path, text } of scenarioFiles(folder)) {
    const run = runFile(text)
    count += run.titles.length
    if (run.text === text) continue
    process.stdout.write(`${name} ${rewrites ? 'rewritten' : 'differs'}\n`)
    if (rewrites) writeFileSync(path, run.text)
    else process.exitCode = 1
  }
  process.stdout.write(`${count} scenarios\n`)
}
