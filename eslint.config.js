// Two rules that need types, and nothing else: a promise nobody awaits is a real bug here. Biome does the rest.
import tseslint from 'typescript-eslint'

export default [
  {
    ignores: [
      '**/dist/**',
      '**/dist-dev/**',
      '**/node_modules/**',
      '**/build/**',
      'docs/**',
      '**/*.js',
      '**/*.mjs',
      '*.ts',
    ],
  },
  {
    files: ['packages/**/*.ts', 'examples/**/*.ts'],
    languageOptions: {
      parser: tseslint.parser,
      parserOptions: {
        // One program for all packages is several times faster than one for each of their projects.
        project: '.ci/tsconfig.lint.json',
        tsconfigRootDir: import.meta.dirname,
      },
    },
    plugins: { '@typescript-eslint': tseslint.plugin },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
    },
  },
]
