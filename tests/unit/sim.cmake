add_library(sim_checker STATIC ../sim/checker.c ../sim/history.c)
target_link_libraries(sim_checker PUBLIC stet_proto)
stet_unit_test(sim_checker sim_checker)
