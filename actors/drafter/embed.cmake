# cmake -DINPUT=prompt.md -DOUTPUT=prompt_builtin.c -P embed.cmake: a text file as a C array.
file(READ "${INPUT}" hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "((0x[0-9a-f][0-9a-f],)(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?(0x[0-9a-f][0-9a-f],)?)" "\\1\n" bytes "${bytes}")
file(WRITE "${OUTPUT}"
  "#include \"actors/drafter/prompt.h\"\n\nconst char drafter_prompt_builtin[] = {\n${bytes}0};\nconst size_t drafter_prompt_builtin_size = ${size};\n")
