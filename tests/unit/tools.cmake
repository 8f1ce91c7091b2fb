stet_unit_test(cli_args stet_tools)
stet_unit_test(cli_restart stet_tools)
stet_unit_test(cli_table stet_tools)
