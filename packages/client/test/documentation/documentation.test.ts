// Every TypeScript block of the documentation compiles as a user's strict project would have it, and those that say so
// run against a broker and print what the page says.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startTestCluster } from '@millrace/broker/testing'
import { connect } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import ts from 'typescript'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { blocksOf, type CodeBlock, pages, ROOT } from './code-blocks.js'
import { runProgram } from './run-program.js'

const OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts', 'lib.dom.d.ts'],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  strict: true,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: true,
  noEmit: true,
  types: ['node'],
}

const blocks = pages().flatMap(blocksOf)
/** Where a block stands for the compiler: beside the packages, as in a project that uses them. */
const fileOf = ({ page, line }: CodeBlock): string => `${ROOT}docs/${page.replaceAll('/', '-')}-${line}.mts`

function compile(): Map<string, string[]> {
  const sources = new Map(blocks.map((block) => [fileOf(block), block.code]))
  const host = ts.createCompilerHost(OPTIONS)
  const { fileExists, readFile, getSourceFile } = host
  host.fileExists = (name) => sources.has(name) || fileExists.call(host, name)
  host.readFile = (name) => sources.get(name) ?? readFile.call(host, name)
  host.getSourceFile = (name, version, ...rest) => {
    const text = sources.get(name)
    return text === undefined
      ? getSourceFile.call(host, name, version, ...rest)
      : ts.createSourceFile(name, text, version, true)
  }
  const found = new Map<string, string[]>()
  for (const { file, start, messageText } of ts.getPreEmitDiagnostics(
    ts.createProgram([...sources.keys()], OPTIONS, host),
  )) {
    const message = ts.flattenDiagnosticMessageText(messageText, '\n')
    const line = file === undefined ? 0 : file.getLineAndCharacterOfPosition(start ?? 0).line + 1
    const name = file?.fileName ?? ''
    found.set(name, [...(found.get(name) ?? []), `line ${line}: ${message}`])
  }
  return found
}

describe('every block compiles', () => {
  let errors: Map<string, string[]>
  beforeAll(() => {
    errors = compile()
  }, 240_000)

  test('the program as a whole', () => {
    const files = new Set(blocks.map(fileOf))
    expect([...errors].filter(([file]) => !files.has(file))).toEqual([])
    expect(blocks.length).toBeGreaterThan(5)
  })

  test.each(blocks.map((block) => [`${block.page}:${block.line}`, block] as const))('%s', (_, block) => {
    expect(errors.get(fileOf(block)) ?? []).toEqual([])
  })
})

describe('what runs', () => {
  const running = blocks.filter(({ runs }) => runs)
  const parent = join(ROOT, 'node_modules', '.cache')
  mkdirSync(parent, { recursive: true })
  const scratch = mkdtempSync(join(parent, 'millrace-documentation-'))
  afterAll(() => rmSync(scratch, { recursive: true, force: true }))

  test.each(running.map((block) => [`${block.page}:${block.line}`, block] as const))('%s', async (_, block) => {
    const cluster = await startTestCluster({ brokers: 1 })
    try {
      const mill = connect({ bootstrap: cluster.bootstrap })
      for (const [name, partitions] of TOPICS) await admin(mill).createTopic(name, { partitions })
      await mill.close()
      const file = join(scratch, `${block.page.replaceAll('/', '-')}-${block.line}.mjs`)
      const { outputText } = ts.transpileModule(block.code.replaceAll('localhost:7420', cluster.bootstrap), {
        compilerOptions: { ...OPTIONS, noEmit: false },
        fileName: file.replace(/mjs$/, 'mts'),
      })
      writeFileSync(file, outputText)
      const { code, output, errors } = await runProgram(file, scratch)
      expect(`${errors}exit code ${code}`).toBe('exit code 0')
      if (block.output !== null) expect(output.trimEnd()).toBe(block.output)
    } finally {
      await cluster.stop()
    }
  })
})

/** Topics that a reader of the guide has made when it comes to its code. */
const TOPICS = [['orders', 6]] as const
