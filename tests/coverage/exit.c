/* A process that ends by _exit(), as the detached supervisor does, ends without writing gcov's counters. In the
 * build of tools/coverage.sh the linker puts this in its place. */

/* NOLINTBEGIN(bugprone-reserved-identifier): the names are gcov's and the linker's */
void __gcov_dump(void);
_Noreturn void __real__exit(int code);
_Noreturn void __wrap__exit(int code);

_Noreturn void __wrap__exit(int code) {
    __gcov_dump();
    __real__exit(code);
}
/* NOLINTEND(bugprone-reserved-identifier) */
