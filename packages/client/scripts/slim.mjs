// Makes what is published of the client small: comments and white space leave the code, and comments leave the types that
// are no public face. The code keeps its names and has short lines, so that a stack trace can be read. Run on a staged
// copy: `node slim.mjs FOLDER`.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, normalize } from 'node:path'
import { transform } from 'esbuild'
import ts from 'typescript'

const FACES = ['index.d.ts', 'admin.d.ts', 'embedding.d.ts']

const OPTIONS = { format: 'esm', target: 'es2022', minifyWhitespace: true, lineLimit: 100 }

const dist = join(process.argv[2], 'dist')
const files = readdirSync(dist, { recursive: true }).filter((file) => !file.startsWith('vendor'))

/** Whatever a face exports from, it exports with its documentation. */
const documented = new Set(FACES)
for (const face of FACES) {
  for (const [, from] of readFileSync(join(dist, face), 'utf8').matchAll(/^export .* from '\.\/(.+)\.js';$/gm))
    documented.add(normalize(`${from}.d.ts`))
}

const printer = ts.createPrinter({ removeComments: true })
for (const file of files) {
  const path = join(dist, file)
  if (file.endsWith('.js')) {
    const { code } = await transform(readFileSync(path, 'utf8'), OPTIONS)
    writeFileSync(path, code)
  } else if (file.endsWith('.d.ts') && !documented.has(file)) {
    writeFileSync(
      path,
      printer.printFile(ts.createSourceFile(file, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2022)),
    )
  }
}
