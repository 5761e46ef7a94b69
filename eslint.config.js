// What Biome has no rule for: promises nobody awaits, and sums that forget what others added while they waited.
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
      'no-restricted-syntax': [
        'error',
        {
          selector: 'AssignmentExpression[operator=/^[^=]+=$/] AwaitExpression',
          message: 'The left side is read before the wait: await into a constant first, then add.',
        },
      ],
    },
  },
]
